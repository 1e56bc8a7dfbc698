//! Random families of branches: each written to, taken off others, gone back and forth in, and
//! dropped, in any order, beside a writer that goes on.

use proptest::prelude::*;

use super::audit::check_version;
use super::histories::{Shape, Step, key_of, shape, statements, step};
use super::world::{Held, Model, One, World};
use crate::sync::unmodelled::Ordering;
use crate::tree::{Branch, Mark, Session};

/// What happens to a family.
#[derive(Clone, Debug)]
enum Act {
    /// A branch off the origin.
    Take,
    /// A branch off a branch.
    Nest(prop::sample::Index),
    Write(prop::sample::Index, Vec<Step>),
    Drop(prop::sample::Index),
    /// The writer goes on.
    Commit(Vec<Step>),
}

fn act(keys: u32) -> impl Strategy<Value = Act> {
    let steps = || prop::collection::vec(step(keys), 0..6);
    let at = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Act::Take),
        4 => at().prop_map(Act::Nest),
        8 => (at(), steps()).prop_map(|(at, steps)| Act::Write(at, steps)),
        3 => at().prop_map(Act::Drop),
        2 => steps().prop_map(Act::Commit),
    ]
}

fn family() -> impl Strategy<Value = (Shape, Vec<Step>, Vec<Act>)> {
    let keys = prop_oneof![Just(12_u32), Just(90), Just(700)];
    (shape(), keys).prop_flat_map(|(shape, keys)| {
        let first = prop::collection::vec(step(keys), 0..12);
        (Just(shape), first, prop::collection::vec(act(keys), 1..40))
    })
}

/// A branch and what it must show.
struct Member {
    branch: Branch<One>,
    trees: One,
    model: Model,
    marks: Vec<(Mark, One, Model)>,
}

struct Family {
    world: World,
    shape: Shape,
    next: u32,
    members: Vec<Member>,
    /// The version that all stand on, outlived by none of them.
    origin: Held,
}

impl Family {
    fn set(&mut self, steps: &[Step], at: usize) {
        let Member { branch, trees, model, marks } = &mut self.members[at];
        for step in steps {
            for (n, is_put) in statements(step) {
                self.next += 1;
                let (number, key) = (is_put.then_some(self.next), key_of(self.shape, n));
                self.world.set(branch, trees, model, &key, number);
            }
            match step {
                Step::Mark => marks.push((branch.mark(trees), trees.clone(), model.clone())),
                Step::ReturnTo(at) if !marks.is_empty() => {
                    let (mark, marked, expected) = at.get(marks);
                    branch.return_to(*mark, trees);
                    (*trees, *model) = (marked.clone(), expected.clone());
                }
                _ => {}
            }
        }
    }

    fn commit(&mut self, steps: &[Step]) -> Held {
        let (mut trees, mut model) =
            (self.world.newest.trees.clone(), self.world.newest.model.clone());
        let mut writer = self.world.store.write();
        for (n, is_put) in steps.iter().flat_map(statements) {
            self.next += 1;
            let (number, key) = (is_put.then_some(self.next), key_of(self.shape, n));
            self.world.set(&mut writer, &mut trees, &mut model, &key, number);
        }
        self.world.commit(writer, trees, model)
    }

    fn check(&self) {
        check_version(&self.origin.trees, &self.origin.model);
        for Member { trees, model, marks, .. } in &self.members {
            check_version(trees, model);
            marks.iter().for_each(|(_, trees, model)| check_version(trees, model));
        }
    }

    fn act(&mut self, act: Act) {
        let one = |at: prop::sample::Index, members: &[Member]| {
            (!members.is_empty()).then(|| at.index(members.len()))
        };
        match act {
            Act::Take => {
                let (trees, model) = (self.origin.trees.clone(), self.origin.model.clone());
                let branch = Branch::new(&self.origin.version);
                self.members.push(Member { branch, trees, model, marks: Vec::new() });
            }
            Act::Nest(at) => {
                if let Some(at) = one(at, &self.members) {
                    let Member { branch, trees, model, .. } = &mut self.members[at];
                    let (branch, trees, model) = (branch.branch(), trees.clone(), model.clone());
                    self.members.push(Member { branch, trees, model, marks: Vec::new() });
                }
            }
            Act::Write(at, steps) => {
                if let Some(at) = one(at, &self.members) {
                    self.set(&steps, at);
                }
            }
            Act::Drop(at) => {
                if let Some(at) = one(at, &self.members) {
                    self.members.swap_remove(at);
                }
            }
            Act::Commit(steps) => drop(self.commit(&steps)),
        }
    }
}

fn run(shape: Shape, first: &[Step], acts: Vec<Act>) {
    let mut world = World::new();
    let (trees, model) = (world.newest.trees.clone(), world.newest.model.clone());
    let writer = world.store.write();
    let origin = world.commit(writer, trees, model);
    let mut family = Family { world, shape, next: 0, members: Vec::new(), origin };
    family.commit(first);
    family.origin = family.commit(&[]);
    for act in acts {
        family.act(act);
        family.check();
        if family.members.is_empty() {
            family.world.audit([&family.origin].into_iter());
        }
    }
    family.members.clear();
    family.world.audit([&family.origin].into_iter());
    let alive = std::sync::Arc::clone(&family.world.alive);
    drop(family);
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
    fn every_branch_equals_its_model_and_leaves_nothing((shape, first, acts) in family()) {
        run(shape, &first, acts);
    }
}

/// One whose holders have all gone but one goes on in the memory that is there.
#[test]
fn a_branch_that_is_alone_again_takes_no_more_memory_each_time() {
    let mut world = World::new();
    let (mut trees, mut model) = (world.newest.trees.clone(), Model::new());
    let mut branch = Branch::new(&world.newest.version);
    let mut bytes = Vec::new();
    for round in 0..200_u32 {
        let key = key_of(Shape::Sequence, round % 20);
        world.set(&mut branch, &mut trees, &mut model, &key, Some(round));
        bytes.push(branch.held_bytes());
        let child = branch.branch();
        if round % 3 == 0 {
            // The parent goes, and the child goes on.
            branch = child;
        }
    }
    check_version(&trees, &model);
    // Nodes that are allocations of their own are in no chunk.
    assert!(cfg!(fsmdb_node_malloc) || bytes[199] < bytes[0] * 4, "{bytes:?}");
    drop(branch);
    world.audit(std::iter::empty());
}
