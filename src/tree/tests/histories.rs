//! Random histories: transactions that commit, abort, go back and forth between savepoints, peek,
//! branch off; versions held for any time.

use proptest::prelude::*;

use super::audit::check_version;
use super::diff::{check_diff, check_diffs};
use super::world::{Held, Model, One, World};
use crate::sync::unmodelled::Ordering;
use crate::tree::{Branch, Doomed, Session};

/// The shapes of keys that differ in what a node does with them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Of one length, without a common prefix.
    Uniform,
    /// Short and of all lengths, many of them prefixes of others.
    Ragged,
    /// With long common prefixes, some longer than a node's header holds.
    Prefixed,
    /// Equal in their first bytes after the prefix, so that heads do not tell them apart.
    SameHeads,
    /// In ascending order.
    Sequence,
    /// Up to the greatest length.
    Long,
}

pub(super) fn key_of(shape: Shape, n: u32) -> Vec<u8> {
    let scattered = n.wrapping_mul(0x9E37_79B9);
    match shape {
        Shape::Uniform => [scattered.to_be_bytes(), n.to_be_bytes()].concat(),
        Shape::Ragged => {
            let bytes = scattered.to_be_bytes();
            let alphabet = [0, 1, 0x61, 0xFF];
            (0..n % 6)
                .map(|at| alphabet[(bytes[at as usize % 4] >> (at % 3)) as usize % 4])
                .collect()
        }
        Shape::Prefixed => {
            let prefix = ["", "jobs/", "jobs/production/region-one/", "nodes/x"][n as usize % 4];
            format!("{prefix}{}", scattered % 1000).into_bytes()
        }
        Shape::SameHeads => {
            let mut key = vec![7; (n % 3) as usize + 3];
            key.extend_from_slice(&scattered.to_be_bytes()[..(n % 4) as usize + 1]);
            key
        }
        Shape::Sequence => u64::from(n).to_be_bytes().to_vec(),
        Shape::Long => {
            let len = if n.is_multiple_of(3) { 4050 } else { (scattered % 900) as usize };
            let mut key = vec![(n % 2) as u8; len];
            key.extend_from_slice(&scattered.to_be_bytes());
            key
        }
    }
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(u32),
    Delete(u32),
    PutRun(u32, u8),
    DeleteRun(u32, u8),
    Mark,
    ReturnTo(prop::sample::Index),
    Restart,
    Peek,
}

/// What happens to the database.
#[derive(Clone, Debug)]
enum Act {
    Commit(Vec<Step>),
    Abort(Vec<Step>),
    /// A branch, one off it, one off that, and so on; all go on.
    Branch(Vec<Step>),
    Hold,
    Release(prop::sample::Index),
}

pub(super) fn step(keys: u32) -> impl Strategy<Value = Step> {
    let n = 0..keys;
    prop_oneof![
        8 => n.clone().prop_map(Step::Put),
        5 => n.clone().prop_map(Step::Delete),
        2 => (n.clone(), any::<u8>()).prop_map(|(n, run)| Step::PutRun(n, run)),
        2 => (n, any::<u8>()).prop_map(|(n, run)| Step::DeleteRun(n, run)),
        1 => Just(Step::Mark),
        1 => any::<prop::sample::Index>().prop_map(Step::ReturnTo),
        1 => Just(Step::Restart),
        1 => Just(Step::Peek),
    ]
}

fn act(keys: u32) -> impl Strategy<Value = Act> {
    let steps = || prop::collection::vec(step(keys), 0..12);
    prop_oneof![
        6 => steps().prop_map(Act::Commit),
        2 => steps().prop_map(Act::Abort),
        1 => steps().prop_map(Act::Branch),
        2 => Just(Act::Hold),
        2 => any::<prop::sample::Index>().prop_map(Act::Release),
    ]
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Uniform),
        Just(Shape::Ragged),
        Just(Shape::Prefixed),
        Just(Shape::SameHeads),
        Just(Shape::Sequence),
        Just(Shape::Long),
    ]
}

fn history() -> impl Strategy<Value = (Shape, Vec<Act>)> {
    let keys = prop_oneof![Just(12_u32), Just(90), Just(700)];
    (shape(), keys)
        .prop_flat_map(|(shape, keys)| (Just(shape), prop::collection::vec(act(keys), 1..30)))
}

/// The statements of a step, as key numbers and whether they put.
pub(super) fn statements(step: &Step) -> Vec<(u32, bool)> {
    match *step {
        Step::Put(n) => vec![(n, true)],
        Step::Delete(n) => vec![(n, false)],
        Step::PutRun(n, run) => (n..n + u32::from(run)).map(|n| (n, true)).collect(),
        Step::DeleteRun(n, run) => (n..n + u32::from(run)).map(|n| (n, false)).collect(),
        _ => Vec::new(),
    }
}

struct Run {
    world: World,
    held: Vec<Held>,
    shape: Shape,
    next: u32,
}

impl Run {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn transact(&mut self, steps: &[Step], is_committed: bool) {
        let (mut trees, mut model) =
            (self.world.newest.trees.clone(), self.world.newest.model.clone());
        let mut writer = self.world.store.write();
        let mut marks = Vec::new();
        for step in steps {
            for (n, is_put) in statements(step) {
                let number = is_put.then(|| self.number());
                let key = key_of(self.shape, n);
                self.world.set(&mut writer, &mut trees, &mut model, &key, number);
            }
            match step {
                Step::Mark => marks.push((writer.mark(&trees), trees.clone(), model.clone())),
                Step::ReturnTo(at) if !marks.is_empty() => {
                    let (mark, marked, expected) = at.get(&marks);
                    writer.return_to(*mark, &trees);
                    (trees, model) = (marked.clone(), expected.clone());
                }
                Step::Restart => {
                    writer.restart(&trees);
                    (trees, model) =
                        (self.world.newest.trees.clone(), self.world.newest.model.clone());
                }
                Step::Peek => {
                    let version = writer.peek(&trees);
                    let (trees, model) = (trees.clone(), model.clone());
                    self.held.push(Held { trees, model, version, is_peek: true });
                }
                _ => {}
            }
        }
        check_version(&trees, &model);
        marks.iter().for_each(|(_, trees, model)| check_version(trees, model));
        if is_committed {
            self.world.commit(writer, trees, model);
        } else {
            writer.abort(&trees, &mut Doomed::default());
        }
    }

    fn branch(&mut self, steps: &[Step]) {
        let branch = Branch::new(&self.world.newest.version);
        let (trees, model) = (self.world.newest.trees.clone(), self.world.newest.model.clone());
        let mut family = vec![(branch, trees, model)];
        for steps in steps.chunks(3) {
            let (branch, trees, model) = family.last_mut().expect("there is the first");
            let child = (branch.branch(), trees.clone(), model.clone());
            family.push(child);
            for (branch, trees, model) in &mut family {
                for (n, is_put) in steps.iter().flat_map(statements) {
                    self.next += 1;
                    let (number, key) = (is_put.then_some(self.next), key_of(self.shape, n));
                    self.world.set(branch, trees, model, &key, number);
                }
            }
            family.iter().for_each(|(_, trees, model)| check_version(trees, model));
        }
        for (_, trees, model) in &family {
            for origin in self.held.last().into_iter().chain([&self.world.newest]) {
                let seed = u64::from(self.next);
                check_diff((trees, model), (&origin.trees, &origin.model), seed);
            }
        }
        for pair in family.windows(2) {
            let [(_, trees, model), (_, others, other)] = pair else { continue };
            check_diff((trees, model), (others, other), u64::from(self.next));
        }
    }
}

fn run(shape: Shape, acts: Vec<Act>) {
    let mut run = Run { world: World::new(), held: Vec::new(), shape, next: 0 };
    for act in acts {
        match act {
            Act::Commit(steps) => run.transact(&steps, true),
            Act::Abort(steps) => run.transact(&steps, false),
            Act::Branch(steps) => run.branch(&steps),
            Act::Hold => {
                run.transact(&[Step::Put(1)], true);
                let One(trees) = run.world.newest.trees.clone();
                let model: Model = run.world.newest.model.clone();
                let before = {
                    let writer = run.world.store.write();
                    run.world.commit(writer, One(trees), model)
                };
                run.held.push(before);
            }
            Act::Release(at) if !run.held.is_empty() => {
                run.held.swap_remove(at.index(run.held.len()));
            }
            Act::Release(_) => {}
        }
        check_version(&run.world.newest.trees, &run.world.newest.model);
        run.held.iter().for_each(|held| check_version(&held.trees, &held.model));
        check_diffs(&run.world.newest, &run.held, u64::from(run.next));
        run.world.audit(run.held.iter());
    }
    let alive = std::sync::Arc::clone(&run.world.alive);
    drop(run);
    assert_eq!(alive.load(Ordering::Relaxed), 0, "every row was dropped");
}

/// Fewer in a debug build, where a case takes ten times as long.
const CASES: u32 = if cfg!(debug_assertions) {
    48
} else if cfg!(fsmdb_node_malloc) {
    128
} else {
    512
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn every_version_equals_its_model_and_memory_is_exact((shape, acts) in history()) {
        run(shape, acts);
    }
}
