//! Stretches of keys, and which of them a key lies in.
//!
//! A search tree by the lower end of the stretches, in which each node knows the highest end below
//! it: a key that lies behind that end lies in none of them. It is kept balanced by a random
//! priority, which is made of a counter (a treap; Seidel and Aragon, "Randomized search trees",
//! 1996; interval trees: Cormen et al., "Introduction to Algorithms", 14.3). Who meets the same
//! stretch again meets the same node.
//!
//! A search waits for memory at each level. So what it mostly needs of a node, the first bytes of
//! three keys and the ways on, stands in one cache line, apart from the rest.
//!
//! # Invariants
//!
//! 1. Nodes are in ascending order of their stretches, each stretch once.
//! 2. The priority of a node is not below those of its children.
//! 3. `reach` of a node is the highest end of the stretches below it, itself included.

use std::cmp::Ordering;

use crate::table::{Edge, Span};

/// Stretches with what is attached to each.
#[derive(Debug)]
pub(super) struct Spans<V> {
    nodes: Vec<Node<V>>,
    /// What a search needs of each node.
    lines: Vec<Line>,
    /// A buffer of searches.
    rest: Vec<u32>,
    root: Option<usize>,
    /// Places of `nodes` that are free.
    free: Vec<usize>,
    /// Nodes made so far, of which the priorities are made.
    made: u64,
}

/// The first bytes of a key, as a number of the same order.
type Head = u128;

/// What a search needs of a node.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    low: Head,
    /// Of the end of the stretch; the greatest number where there is no end.
    high: Head,
    /// Of the end at `reach`.
    reach: Head,
    left: u32,
    right: u32,
}

const NOWHERE: u32 = u32::MAX;

#[inline]
fn head(key: &[u8]) -> Head {
    let mut bytes = [0; size_of::<Head>()];
    let len = key.len().min(bytes.len());
    bytes[..len].copy_from_slice(&key[..len]);
    Head::from_be_bytes(bytes)
}

fn end_head(end: Option<&Edge>) -> Head {
    end.map_or(Head::MAX, |end| head(&end.key))
}

#[derive(Debug)]
struct Node<V> {
    span: Span,
    value: Option<V>,
    priority: u64,
    /// The place of the node below it whose stretch ends highest.
    reach: usize,
    left: Option<usize>,
    right: Option<usize>,
}

impl<V> Default for Spans<V> {
    fn default() -> Self {
        let (nodes, lines, rest) = (Vec::new(), Vec::new(), Vec::new());
        Self { nodes, lines, rest, root: None, free: Vec::new(), made: 0 }
    }
}

/// The order of upper ends; no end is the highest.
fn cmp_ends(one: Option<&Edge>, other: Option<&Edge>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

fn cmp_spans(one: &Span, other: &Span) -> Ordering {
    one.low.cmp(&other.low).then_with(|| cmp_ends(one.high.as_ref(), other.high.as_ref()))
}

/// A number without a pattern made of the numbers from 0 (splitmix64, Steele et al., 2014).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl<V> Spans<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    fn find(&self, span: &Span) -> Option<usize> {
        let mut next = self.root;
        while let Some(at) = next {
            let node = &self.nodes[at];
            next = match cmp_spans(span, &node.span) {
                Ordering::Equal => return Some(at),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// What is attached to `span`.
    pub(super) fn get_mut(&mut self, span: &Span) -> Option<&mut V> {
        let at = self.find(span)?;
        self.nodes[at].value.as_mut()
    }

    /// What is attached to `span`, made first if there is nothing.
    pub(super) fn entry(&mut self, span: &Span) -> &mut V
    where
        V: Default,
    {
        let at = self.find(span).unwrap_or_else(|| self.insert(span.clone()));
        self.nodes[at].value.get_or_insert_default()
    }

    fn insert(&mut self, span: Span) -> usize {
        let at = self.free.pop().unwrap_or(self.nodes.len());
        let priority = scatter(self.made);
        self.made += 1;
        let node = Node { span, value: None, priority, reach: at, left: None, right: None };
        let line = Line { low: 0, high: 0, reach: 0, left: NOWHERE, right: NOWHERE };
        if at == self.nodes.len() {
            self.nodes.push(node);
            self.lines.push(line);
        } else {
            self.nodes[at] = node;
        }
        self.update(at);
        let root = self.root;
        self.root = Some(self.insert_below(root, at));
        at
    }

    /// Inserts the node at `at` below `root` and gives the node that stands there then.
    fn insert_below(&mut self, root: Option<usize>, at: usize) -> usize {
        let Some(root) = root else { return at };
        if cmp_spans(&self.nodes[at].span, &self.nodes[root].span) == Ordering::Less {
            let left = self.insert_below(self.nodes[root].left, at);
            self.nodes[root].left = Some(left);
            if self.nodes[left].priority > self.nodes[root].priority {
                return self.rotate_right(root, left);
            }
        } else {
            let right = self.insert_below(self.nodes[root].right, at);
            self.nodes[root].right = Some(right);
            if self.nodes[right].priority > self.nodes[root].priority {
                return self.rotate_left(root, right);
            }
        }
        self.update(root);
        root
    }

    fn rotate_right(&mut self, root: usize, left: usize) -> usize {
        self.nodes[root].left = self.nodes[left].right.replace(root);
        self.update(root);
        self.update(left);
        left
    }

    fn rotate_left(&mut self, root: usize, right: usize) -> usize {
        self.nodes[root].right = self.nodes[right].left.replace(root);
        self.update(root);
        self.update(right);
        right
    }

    /// Takes `span` out, and what is attached to it.
    pub(super) fn remove(&mut self, span: &Span) -> Option<V> {
        let at = self.find(span)?;
        let value = self.nodes[at].value.take();
        let root = self.root;
        self.root = self.remove_below(root?, at);
        self.free.push(at);
        if self.root.is_none() {
            // Nothing is left, so nothing is kept.
            *self = Self::default();
        }
        value
    }

    /// Takes the node at `at` out of those below `root` and gives the node that stands there then.
    fn remove_below(&mut self, root: usize, at: usize) -> Option<usize> {
        let (left, right) = (self.nodes[root].left, self.nodes[root].right);
        if root == at {
            return self.merge(left, right);
        }
        if cmp_spans(&self.nodes[at].span, &self.nodes[root].span) == Ordering::Less {
            self.nodes[root].left = self.remove_below(left?, at);
        } else {
            self.nodes[root].right = self.remove_below(right?, at);
        }
        self.update(root);
        Some(root)
    }

    /// One tree of two, of which the first is wholly before the second.
    fn merge(&mut self, left: Option<usize>, right: Option<usize>) -> Option<usize> {
        let (Some(one), Some(other)) = (left, right) else { return left.or(right) };
        if self.nodes[one].priority > self.nodes[other].priority {
            self.nodes[one].right = self.merge(self.nodes[one].right, right);
            self.update(one);
            left
        } else {
            self.nodes[other].left = self.merge(left, self.nodes[other].left);
            self.update(other);
            right
        }
    }

    fn update(&mut self, at: usize) {
        let node = &self.nodes[at];
        let below = [node.left, node.right].into_iter().flatten().map(|at| self.nodes[at].reach);
        let end = |at: &usize| self.nodes[*at].span.high.as_ref();
        let reach = below.chain([at]).max_by(|one, other| cmp_ends(end(one), end(other)));
        let reach = reach.unwrap_or(at);
        self.nodes[at].reach = reach;
        let node = &self.nodes[at];
        let way = |next: Option<usize>| next.map_or(NOWHERE, |next| next as u32);
        self.lines[at] = Line {
            low: head(&node.span.low.key),
            high: end_head(node.span.high.as_ref()),
            reach: end_head(self.nodes[reach].span.high.as_ref()),
            left: way(node.left),
            right: way(node.right),
        };
    }

    /// Calls `visit` with what is attached to each stretch that `key` lies in; O(log n) for the
    /// search and for each that is found.
    pub(super) fn visit_mut(&mut self, key: &[u8], mut visit: impl FnMut(&Span, &mut V)) {
        let wanted = head(key);
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend(self.root.map(|root| root as u32));
        while let Some(at) = rest.pop() {
            let at = at as usize;
            let Line { low, high, reach, left, right } = self.lines[at];
            // Heads that are equal say nothing.
            if reach < wanted || reach == wanted && self.ends_before(self.nodes[at].reach, key) {
                continue;
            }
            if left != NOWHERE {
                rest.push(left);
            }
            let node = &mut self.nodes[at];
            if low > wanted || low == wanted && node.span.low.is_behind(key) {
                continue;
            }
            if high >= wanted
                && node.span.contains(key)
                && let Some(value) = &mut node.value
            {
                visit(&node.span, value);
            }
            if right != NOWHERE {
                rest.push(right);
            }
        }
        self.rest = rest;
    }

    /// Whether the stretch of a node ends before `key`.
    fn ends_before(&self, at: usize, key: &[u8]) -> bool {
        self.nodes[at].span.high.as_ref().is_some_and(|high| !high.is_behind(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::Bound;

    impl<V> Spans<V> {
        /// Proves invariants 1 to 3 below `at` and gives the number of nodes.
        fn check(&self, at: Option<usize>) -> usize {
            let Some(at) = at else { return 0 };
            let node = &self.nodes[at];
            for (child, order) in [(node.left, Ordering::Less), (node.right, Ordering::Greater)] {
                let Some(child) = child.map(|child| &self.nodes[child]) else { continue };
                assert_eq!(cmp_spans(&child.span, &node.span), order);
                assert!(child.priority <= node.priority);
                let reach = |node: &Node<V>| self.nodes[node.reach].span.high.clone();
                let order = cmp_ends(reach(node).as_ref(), reach(child).as_ref());
                assert_ne!(order, Ordering::Less);
            }
            1 + self.check(node.left) + self.check(node.right)
        }
    }

    /// Short ones, and such as have the same first bytes.
    fn keys() -> impl Strategy<Value = Vec<u8>> + Clone {
        let short = prop::collection::vec(0..4_u8, 0..3);
        prop_oneof![
            3 => short.clone(),
            1 => short.clone().prop_map(|tail| [vec![2; 16], tail].concat()),
            1 => short.prop_map(|tail| [vec![u8::MAX; 16], tail].concat()),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        let key = keys();
        prop_oneof![
            Just(Bound::Unbounded),
            key.clone().prop_map(Bound::Included),
            key.prop_map(Bound::Excluded),
        ]
    }

    fn span() -> impl Strategy<Value = Span> {
        (bound(), bound()).prop_map(|(low, high)| {
            Span::new(low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice))
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_of_all_finds(
            steps in prop::collection::vec((any::<bool>(), span()), 1..80),
            keys in prop::collection::vec(keys(), 1..20),
        ) {
            let mut spans = Spans::<u32>::default();
            let mut model: Vec<(Span, u32)> = Vec::new();
            for (is_insert, span) in steps {
                let known = model.iter().position(|(known, _)| *known == span);
                if is_insert {
                    *spans.entry(&span) += 1;
                    match known {
                        Some(at) => model[at].1 += 1,
                        None => model.push((span, 1)),
                    }
                } else {
                    prop_assert_eq!(spans.get_mut(&span).copied(), known.map(|at| model[at].1));
                    let removed = known.map(|at| model.swap_remove(at).1);
                    prop_assert_eq!(spans.remove(&span), removed);
                }
                prop_assert_eq!(spans.check(spans.root), model.len());
                prop_assert_eq!(spans.is_empty(), model.is_empty());
                for key in &keys {
                    let mut found = Vec::new();
                    spans.visit_mut(key, |span, count| found.push((span.clone(), *count)));
                    let mut expected: Vec<_> =
                        model.iter().filter(|(span, _)| span.contains(key)).cloned().collect();
                    found.sort();
                    expected.sort();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn a_long_chain_stays_shallow() {
        let mut spans = Spans::<u32>::default();
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            let span = Span::new(Bound::Included(&key), Bound::Included(&key));
            *spans.entry(&span) += 1;
        }
        fn depth(spans: &Spans<u32>, at: Option<usize>) -> usize {
            let below = |at: usize| {
                let node = &spans.nodes[at];
                depth(spans, node.left).max(depth(spans, node.right))
            };
            at.map_or(0, |at| 1 + below(at))
        }
        assert!(depth(&spans, spans.root) < 60);
    }
}
