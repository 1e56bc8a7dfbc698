//! Sessions as a state machine: what is kept, what is dropped, and that nothing is applied twice.

use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
use fsmdb_node::session::{
    Envelope, EnvelopeReply, Place, SessionBounds, SessionRefusal, Sessions, with_tables,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "words")]
struct Word {
    #[key]
    at: u64,
    text: String,
}

struct Words;

impl Fsm for Words {
    type Command = String;
    type Reply = Result<String, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, text: String) -> Self::Reply {
        let row = Word { at: at.index, text: text.clone() };
        txn.insert(row).map_err(|error| error.to_string())?;
        if text == "refused" { Err(text) } else { Ok(text) }
    }
}

/// A machine and the index of its last entry.
struct Fed {
    machine: Machine<Sessions<Words>>,
    last: u64,
}

type Reply = EnvelopeReply<Result<String, String>>;

impl Fed {
    fn new(bounds: SessionBounds) -> Self {
        let db = with_tables(Db::builder().table::<Word>()).build().expect("a sound schema");
        let machine = Machine::new(db, Sessions::with_bounds(Words, bounds)).expect("new");
        Self { machine, last: 0 }
    }

    fn apply(&mut self, envelope: &Envelope<String>) -> Reply {
        self.last += 1;
        let command = Machine::<Sessions<Words>>::encode(envelope).expect("it can be encoded");
        let at = Applied { index: self.last, term: 1 };
        self.machine.apply(at, &command).expect("applied").expect("no replay")
    }

    fn open(&mut self) -> u64 {
        match self.apply(&Envelope::Open) {
            EnvelopeReply::Opened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, session: u64, sequence: u64, acknowledged: u64, text: &str) -> Reply {
        let place = Place { session, sequence, acknowledged };
        self.apply(&Envelope::InSession { place, command: text.to_owned() })
    }

    fn words(&self) -> Vec<String> {
        let snapshot = self.machine.read();
        snapshot.table::<Word>().iter().map(|word| word.text.clone()).collect()
    }
}

#[test]
fn a_command_that_comes_again_is_answered_and_not_applied() {
    let mut fed = Fed::new(SessionBounds::default());
    let session = fed.open();
    assert_eq!(fed.say(session, 1, 0, "one"), EnvelopeReply::First(Ok("one".into())));
    let at = Applied { index: fed.last, term: 1 };
    let EnvelopeReply::Again { at: first, reply } = fed.say(session, 1, 0, "one") else {
        panic!("it was applied twice");
    };
    assert_eq!(first, at);
    let reply: Result<String, String> =
        rmp_serde::from_slice(&reply.expect("it is kept")).expect("it is a reply");
    assert_eq!(reply, Ok("one".into()));
    assert_eq!(fed.words(), ["one"]);
}

#[test]
fn a_refusal_is_kept_and_its_writes_are_not() {
    let mut fed = Fed::new(SessionBounds::default());
    let session = fed.open();
    let refused = EnvelopeReply::First(Err("refused".into()));
    assert_eq!(fed.say(session, 1, 0, "refused"), refused);
    assert!(matches!(fed.say(session, 1, 0, "refused"), EnvelopeReply::Again { .. }));
    assert!(fed.words().is_empty());
}

#[test]
fn commands_may_come_out_of_order_until_they_are_acknowledged() {
    let mut fed = Fed::new(SessionBounds::default());
    let session = fed.open();
    for (sequence, text) in [(2, "two"), (1, "one"), (3, "three")] {
        assert!(matches!(fed.say(session, sequence, 0, text), EnvelopeReply::First(_)));
    }
    assert!(matches!(fed.say(session, 4, 2, "four"), EnvelopeReply::First(_)));
    let superseded = SessionRefusal::Superseded { session, sequence: 2 };
    assert_eq!(fed.say(session, 2, 2, "two"), EnvelopeReply::Refused(superseded));
    assert!(matches!(fed.say(session, 3, 2, "three"), EnvelopeReply::Again { .. }));
    assert_eq!(fed.words(), ["two", "one", "three", "four"]);
}

#[test]
fn replies_beyond_the_bounds_are_forgotten_and_their_commands_not_applied_again() {
    let bounds = SessionBounds { replies: 3, reply_bytes: 20, ..SessionBounds::default() };
    let mut fed = Fed::new(bounds);
    let session = fed.open();
    let long = "a reply of more than twenty bytes";
    assert_eq!(fed.say(session, 1, 0, long), EnvelopeReply::First(Ok(long.into())));
    let EnvelopeReply::Again { reply: None, .. } = fed.say(session, 1, 0, long) else {
        panic!("it was applied twice, or kept");
    };
    for sequence in 2..=4 {
        fed.say(session, sequence, 0, "short");
    }
    let superseded = SessionRefusal::Superseded { session, sequence: 1 };
    assert_eq!(fed.say(session, 1, 0, long), EnvelopeReply::Refused(superseded));
    assert!(matches!(fed.say(session, 2, 0, "short"), EnvelopeReply::Again { .. }));
    assert_eq!(fed.words().len(), 4);
}

#[test]
fn a_session_that_was_closed_or_never_was_applies_nothing() {
    let mut fed = Fed::new(SessionBounds::default());
    let session = fed.open();
    fed.say(session, 1, 0, "one");
    assert_eq!(fed.apply(&Envelope::Close { session }), EnvelopeReply::Closed);
    for session in [session, 77] {
        let expired = SessionRefusal::Expired { session };
        assert_eq!(fed.say(session, 1, 0, "one"), EnvelopeReply::Refused(expired));
    }
    assert_eq!(fed.words(), ["one"]);
}

#[test]
fn an_address_is_replaced_until_its_member_is_removed_for_ever() {
    let mut fed = Fed::new(SessionBounds::default());
    let mut member = |address: Option<&str>| {
        fed.apply(&Envelope::Member { id: 3, address: address.map(str::to_owned) })
    };
    assert_eq!(member(Some("here")), EnvelopeReply::Member(true));
    assert_eq!(member(Some("there")), EnvelopeReply::Member(true));
    assert_eq!(member(None), EnvelopeReply::Member(true));
    assert_eq!(member(Some("again")), EnvelopeReply::Member(false));
}

#[test]
fn a_directory_is_written_down_once_for_a_member_that_was_not_removed() {
    let mut fed = Fed::new(SessionBounds::default());
    let member = |address: Option<&str>| {
        let address = address.map(str::to_owned);
        Envelope::Member { id: 3, address }
    };
    let directory = |directory| Envelope::Directory { id: 3, directory };
    assert_eq!(fed.apply(&directory(7)), EnvelopeReply::Member(false), "nobody knows it");
    assert_eq!(fed.apply(&member(Some("here"))), EnvelopeReply::Member(true));
    assert_eq!(fed.apply(&directory(u128::MAX)), EnvelopeReply::Member(true));
    assert_eq!(fed.apply(&member(Some("there"))), EnvelopeReply::Member(true));
    assert_eq!(fed.apply(&directory(u128::MAX)), EnvelopeReply::Member(true), "the same");
    assert_eq!(fed.apply(&directory(8)), EnvelopeReply::Member(false));
    assert_eq!(fed.apply(&member(None)), EnvelopeReply::Member(true));
    assert_eq!(fed.apply(&directory(u128::MAX)), EnvelopeReply::Member(false));
}

#[test]
fn replicas_that_apply_the_same_entries_have_the_same_files() {
    let bounds = SessionBounds { sessions: 3, idle_entries: 10, replies: 2, reply_bytes: 30 };
    let (mut one, mut other) = (Fed::new(bounds), Fed::new(bounds));
    for fed in [&mut one, &mut other] {
        let mut sessions = Vec::new();
        for n in 0..60_u64 {
            if n.is_multiple_of(7) {
                sessions.push(fed.open());
            }
            let session = sessions[(n as usize * 5) % sessions.len()];
            fed.say(session, n % 4 + 1, n % 3, "some words");
        }
    }
    let bytes = |fed: &Fed| {
        let mut bytes = Vec::new();
        fed.machine.read().save(&mut bytes).expect("memory takes everything");
        bytes
    };
    assert_eq!(bytes(&one), bytes(&other));
    one.machine.db().check().expect("indexes are right");
}
