//! Decides on a snapshot which allocation to place next and where, and proposes that.
//!
//! Several schedulers run at once and know nothing of each other. Two that decide the same on the
//! same snapshot both propose it; the log orders the proposals and the database refuses the
//! second. The loser looks at a snapshot that has the refusal, and goes on. With nothing to place
//! a scheduler sleeps until what it has read to see that is not so any more.

use anyhow::Result;
use fsmdb::{Read, Watcher};

use crate::command::{Command, Placement, misfit};
use crate::control::{Control, Seat};
use crate::draw::Draw;
use crate::model::{Allocation, AllocationId, Job, Node, NodeId, State};

/// Places what is missing until all nodes are closed or the program halts.
pub fn run(control: &Control, replica: u64, mut draw: Draw) -> Result<()> {
    let mut seat = Seat::at(replica);
    let mut decide = |db: &Watcher<'_>| (is_over(db), next_placement(db, &mut draw));
    while let Some(((is_over, next), watch)) = control.watch(&mut seat, &mut decide)? {
        let Some(placement) = next else {
            if is_over {
                break;
            }
            watch.wait(None);
            continue;
        };
        drop(watch);
        let (entry, _) = control.propose(&Command::Place { placement, at_ms: control.now_ms() })?;
        // Accepted or not: the next decision is made on a state that shows why.
        control.catch_up(&mut seat, entry)?;
    }
    Ok(())
}

fn is_over(db: &impl Read) -> bool {
    let mut nodes = db.table::<Node>().iter().peekable();
    nodes.peek().is_some() && nodes.all(|node| node.closed)
}

/// The first missing allocation for which there is a node, jobs of high priority first.
pub fn next_placement(db: &impl Read, draw: &mut Draw) -> Option<Placement> {
    let jobs = db.table::<Job>().index(Job::BY_PRIORITY);
    jobs.iter().find_map(|job| {
        let instance = missing(db, job).next()?;
        let node = choose_node(db, job, draw)?;
        Some(instance.on(node, AllocationId(draw.next())))
    })
}

/// An instance of a job that does not run and was not done.
#[derive(Clone, Debug)]
pub struct Missing {
    job: String,
    pub ordinal: u32,
    attempt: u32,
    replaces: Option<AllocationId>,
}

impl Missing {
    pub fn on(self, node: NodeId, allocation: AllocationId) -> Placement {
        let Self { job, ordinal, attempt, replaces } = self;
        Placement { allocation, job, ordinal, attempt, replaces, node }
    }
}

/// The instances of `job` that do not run and were not done, each with the attempt it is at and
/// the failed allocation to replace.
pub fn missing(db: &impl Read, job: &Job) -> impl Iterator<Item = Missing> {
    let attempts = db.table::<Allocation>().index(Allocation::BY_ATTEMPT);
    let count = if job.stopping || job.status.is_final() { 0 } else { job.count };
    (0..count).filter_map(move |ordinal| {
        let (attempt, replaces) = match attempts.prefix(&(job.name.as_str(), ordinal)).next_back() {
            None => (1, None),
            Some(last) if last.state == State::Failed && last.attempt < job.attempts => {
                (last.attempt + 1, Some(last.id))
            }
            Some(_) => return None,
        };
        Some(Missing { job: job.name.clone(), ordinal, attempt, replaces })
    })
}

/// The least loaded node that the job fits on; the seed decides between equals.
fn choose_node(db: &impl Read, job: &Job, draw: &mut Draw) -> Option<NodeId> {
    let nodes = db.table::<Node>();
    // One constraint by the index, the others and the room node by node.
    let candidates = match job.constraints.iter().next() {
        Some(pair) => nodes.index(Node::BY_ATTRIBUTES).get(&pair),
        None => nodes.iter(),
    };
    let fitting = candidates.filter(|node| misfit(db, job, node).is_none());
    let allocations = db.table::<Allocation>().index(Allocation::BY_NODE_STATE);
    let load = |node: &Node| {
        allocations.prefix(&(node.id,)).filter(|allocation| allocation.is_live()).count()
    };
    fitting.min_by_key(|node| (load(node), draw.next())).map(|node| node.id)
}
