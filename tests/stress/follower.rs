//! Who is told of what the writer does: a watcher, and a feed that is replayed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fsmdb::{Change, Db, Event, Snapshot, Wake};

use crate::Round;
use crate::rows::{Digest, Item};

/// After so long somebody was forgotten.
const FOREVER: Duration = Duration::from_secs(60);

/// Watches the digest: it must be told of every change, and of nothing else.
pub(crate) fn watch_on(db: &Db, round: &Round) {
    while !round.is_over.load(Ordering::Relaxed) {
        let restores = round.restores.load(Ordering::SeqCst);
        let snap = db.read();
        let (seen, watch) = snap.watch(|read| Digest::written(read));
        let woken = watch.wait(Duration::from_millis(5));
        let now = db.read();
        if Digest::written(&now) != seen {
            assert_eq!(watch.wait(FOREVER), Some(Wake::Changed), "a change was missed");
        } else if woken.is_some() {
            // What was changed may have been changed back, by a later commit or by a restore.
            let is_next = now.revision() == snap.revision().next();
            let is_restored =
                restores != round.restores.load(Ordering::SeqCst) || restores % 2 == 1;
            assert!(is_restored || !is_next, "woken for nothing");
        }
    }
}

/// Replays a feed onto a copy of the items.
pub(crate) struct Follower {
    items: BTreeMap<u32, u64>,
    now: Digest,
}

impl Follower {
    fn new(snap: &Snapshot) -> Self {
        let mut follower = Self { items: BTreeMap::new(), now: Digest::default() };
        for row in snap.table::<Item>() {
            follower.items.insert(row.id, row.check());
            follower.now.add(row);
        }
        assert_eq!(follower.now, Digest::written(snap));
        follower
    }

    #[allow(single_use_lifetimes)] // The elided form is not stable.
    fn apply<'c>(&mut self, changes: impl Iterator<Item = &'c Change>) {
        for change in changes {
            if let Some(before) = change.before::<Item>() {
                before.verify();
                assert_eq!(self.items.remove(&before.id), Some(before.check()), "a change is lost");
                self.now.remove(before);
            }
            if let Some(after) = change.after::<Item>() {
                after.verify();
                assert_eq!(self.items.insert(after.id, after.check()), None, "a change is lost");
                self.now.add(after);
            }
        }
    }

    /// Follows until the round is over, and then to the end.
    pub(crate) fn follow_on(db: &Db, round: &Round) {
        let (snap, mut feed) = db.changes_of::<Item>().follow();
        let mut follower = Self::new(&snap);
        drop(snap);
        loop {
            // Before the look: what is published before the end is heard.
            let is_over = round.is_over.load(Ordering::SeqCst);
            match feed.next_within(Duration::from_millis(5)) {
                Ok(Some(Event::Commit(commit))) => follower.apply(commit.changes()),
                Ok(Some(Event::Reset(reset))) => match reset.changes() {
                    Some(changes) => follower.apply(changes),
                    None => follower = Self::new(&feed.catch_up()),
                },
                Ok(Some(_)) => {}
                Err(_) => follower = Self::new(&feed.catch_up()),
                Ok(None) if is_over => break,
                Ok(None) => {}
            }
        }
        assert_eq!(follower.now, Digest::written(&db.read()), "the feed tells of another database");
    }
}
