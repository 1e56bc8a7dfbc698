//! Hostile peers: no bytes on a connection make a node panic, or allocate by their own word.
//!
//! Kinds of input: raw bytes; frames with right checksums around hostile messages; messages with
//! the right fields and any numbers in them; requests, answers and commands with the right names
//! and any values in them; references to snapshots; heads of parcels of changes. What can be read
//! of messages goes into a core that runs, as a transport would hand it in; all else is read as
//! what it is written again as.

#![no_main]

use arbitrary::Arbitrary;
use fsmdb::raft::{Action, Config, Core, Event, Membership, Message, Recovered};
use fsmdb::{Applied, Fsm, Machine, WriteTxn};
use fsmdb_node::Sessions;
use fsmdb_node::fuzzing::{head_in, read_again};
use fsmdb_node::session::Envelope;
use fsmdb_node::storage::SnapshotReference;
use fsmdb_node::transport::frame::{Decoded, Kind, decode, encode, messages};
use fsmdb_node::transport::{HELLO_BYTES, Hello, VERSIONS, WELCOME_BYTES, Welcome};
use libfuzzer_sys::fuzz_target;
use slog::{Discard, Logger, o};

/// Rounds of actions that one message may set off, one leading to the next.
const ROUNDS_MAX: usize = 64;

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Sealed(Vec<Vec<u8>>),
    Fields(Vec<(Fields, u8)>),
    Named { outer: u8, fields: Vec<(u8, Value)>, cut: Option<u8> },
    Reference { numbers: [u64; 3], hash: [u8; 32], changed: Option<(u8, u8)> },
    Parcel { version: u8, count: u8, base: u64, lengths: Vec<u64>, bytes: u16 },
}

/// The names of requests, answers, envelopes and what they are made of.
const NAMES: &[&str] = &[
    "Propose",
    "Change",
    "Transfer",
    "Diverged",
    "EraseHistory",
    "SnapshotsHeld",
    "Applied",
    "Refused",
    "Unknown",
    "ReadIndex",
    "Report",
    "Digests",
    "Addresses",
    "Erased",
    "NotErased",
    "Plain",
    "InSession",
    "Open",
    "Close",
    "Member",
    "Directory",
    "First",
    "Again",
    "Opened",
    "NotLeader",
    "Transferring",
    "Busy",
    "ChangePending",
    "Invalid",
    "TooLarge",
    "Encode",
    "Stopped",
    "AddLearner",
    "AddVoter",
    "Remove",
    "Promote",
    "Done",
    "Closed",
    "Expired",
    "Superseded",
    "command",
    "steps",
    "to",
    "index",
    "tables",
    "reference",
    "at",
    "reply",
    "is_leader",
    "applied",
    "last_index",
    "membership",
    "matched",
    "build",
    "noted",
    "addresses",
    "reason",
    "indexes",
    "leader",
    "bytes",
    "limit",
    "id",
    "place",
    "session",
    "sequence",
    "acknowledged",
    "address",
    "directory",
    "term",
    "voters",
    "voters_outgoing",
    "learners",
    "learners_next",
    "auto_leave",
    "name",
    "digest",
    "revision",
    "sum",
    "rows",
];

/// A value of MessagePack.
#[derive(Arbitrary, Debug)]
enum Value {
    Nil,
    Flag(bool),
    Number(u64),
    Huge,
    Below(i64),
    Name(u8),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// One with fields that have names.
    Struct(Vec<(u8, Value)>),
    /// So many lists, one in the other.
    Deep(u16),
    /// A list, map or bytes that say to be longer than they are.
    Promised(u8, u32),
}

fn name(number: u8, into: &mut Vec<u8>) {
    text(NAMES[usize::from(number) % NAMES.len()].as_bytes(), into);
}

fn text(bytes: &[u8], into: &mut Vec<u8>) {
    headed(0xdb, bytes.len(), into);
    into.extend_from_slice(bytes);
}

fn headed(kind: u8, length: usize, into: &mut Vec<u8>) {
    into.push(kind);
    into.extend_from_slice(&(length as u32).to_be_bytes());
}

fn structure(fields: &[(u8, Value)], into: &mut Vec<u8>) {
    headed(0xdf, fields.len(), into);
    for (field, value) in fields {
        name(*field, into);
        value.encode(into);
    }
}

impl Value {
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Nil => into.push(0xc0),
            Self::Flag(flag) => into.push(0xc2 + u8::from(*flag)),
            Self::Number(number) if *number < 128 => into.push(*number as u8),
            Self::Number(number) => {
                into.push(0xcf);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Huge => Self::Number(u64::MAX).encode(into),
            Self::Below(number) => {
                into.push(0xd3);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Name(number) => name(*number, into),
            Self::Text(words) => text(words.as_bytes(), into),
            Self::Bytes(bytes) => {
                headed(0xc6, bytes.len(), into);
                into.extend_from_slice(bytes);
            }
            Self::List(values) => {
                headed(0xdd, values.len(), into);
                values.iter().for_each(|value| value.encode(into));
            }
            Self::Map(pairs) => {
                headed(0xdf, pairs.len(), into);
                for (key, value) in pairs {
                    key.encode(into);
                    value.encode(into);
                }
            }
            Self::Struct(fields) => structure(fields, into),
            Self::Deep(depth) => into.extend(std::iter::repeat_n(0x91, usize::from(*depth))),
            Self::Promised(kind, length) => {
                headed([0xc6, 0xdb, 0xdd, 0xdf][usize::from(kind % 4)], *length as usize, into);
            }
        }
    }
}

/// A state machine whose commands and replies are texts.
struct Texts;

impl Fsm for Texts {
    type Command = String;
    type Reply = Result<String, String>;

    fn apply(&self, _: &mut WriteTxn<'_>, _: Applied, text: String) -> Self::Reply {
        Ok(text)
    }
}

/// Reads bytes as all that a peer can send beside frames.
fn read(bytes: &[u8]) {
    assert!(!read_again(bytes).contains(&Some(false)), "it is read as something else");
    let is_command = Machine::<Sessions<Texts>>::check(bytes).is_ok();
    if is_command {
        let envelope: Envelope<String> = rmp_serde::from_slice(bytes).expect("it was checked");
        let again = Machine::<Sessions<Texts>>::encode(&envelope).expect("it is not longer");
        Machine::<Sessions<Texts>>::check(&again).expect("it is a command");
    }
    if let Ok(reference) = SnapshotReference::parse(bytes) {
        assert_eq!(reference.to_bytes(), bytes);
        assert!(reference.name().bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric()));
    }
    if let Some((head, places)) = head_in(bytes) {
        assert!(bytes.starts_with(&head));
        let length = |places: Vec<(u64, u64)>| places.iter().map(|(_, length)| length).sum::<u64>();
        let files = places.map(length);
        assert!(files.is_none_or(|files| files == (bytes.len() - head.len()) as u64));
    }
}

#[derive(Arbitrary, Debug)]
struct Fields {
    kind: u8,
    from: u8,
    numbers: [u8; 5],
    huge: Option<(u8, u64)>,
    reject: bool,
    entries: Vec<(u8, u8, u8, Vec<u8>)>,
    snapshot: Option<(u8, u8, Vec<u8>)>,
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn number(field: u64, value: u64, into: &mut Vec<u8>) {
    varint(field << 3, into);
    varint(value, into);
}

fn nested(field: u64, content: &[u8], into: &mut Vec<u8>) {
    varint(field << 3 | 2, into);
    varint(content.len() as u64, into);
    into.extend_from_slice(content);
}

impl Fields {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        number(1, u64::from(self.kind % 19), &mut bytes);
        number(2, 1, &mut bytes);
        number(3, u64::from(self.from % 5), &mut bytes);
        for (field, value) in [4, 5, 6, 8, 11].into_iter().zip(self.numbers) {
            number(field, u64::from(value), &mut bytes);
        }
        if let Some((field, value)) = self.huge {
            number(u64::from(field % 17).max(4), value, &mut bytes);
        }
        number(10, u64::from(self.reject), &mut bytes);
        for (kind, term, index, data) in &self.entries {
            let mut entry = Vec::new();
            number(1, u64::from(kind % 3), &mut entry);
            number(2, u64::from(*term), &mut entry);
            number(3, u64::from(*index), &mut entry);
            nested(4, data, &mut entry);
            nested(7, &entry, &mut bytes);
        }
        if let Some((index, term, voters)) = &self.snapshot {
            let (mut members, mut metadata, mut snapshot) = (Vec::new(), Vec::new(), Vec::new());
            voters.iter().for_each(|id| number(1, u64::from(id % 5), &mut members));
            nested(1, &members, &mut metadata);
            number(2, u64::from(*index), &mut metadata);
            number(3, u64::from(*term), &mut metadata);
            nested(2, &metadata, &mut snapshot);
            nested(9, &snapshot, &mut bytes);
        }
        bytes
    }
}

fn sealed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(Kind::Messages, &[&(message.len() as u32).to_le_bytes(), message], &mut bytes);
    bytes
}

/// Steps a core as a shell does whose disk and state machine answer at once.
fn drive(core: &mut Core, event: Event) {
    let mut events = vec![event];
    for _ in 0..ROUNDS_MAX {
        let Some(event) = events.pop() else { return };
        let mut next = Vec::new();
        for action in core.step(event) {
            match action {
                Action::Persist(batch) => next.push(Event::Persisted(batch.number)),
                Action::Apply(entries) => {
                    next.extend(entries.last().map(|last| Event::Applied(last.entry.index())));
                }
                Action::Install(snapshot) => next.push(Event::Applied(snapshot.index)),
                Action::BuildSnapshot => next.push(Event::SnapshotFailed),
                Action::SendSnapshot(message) => {
                    next.push(Event::SnapshotSent { to: message.to(), ok: false });
                }
                _ => {}
            }
        }
        // In the order of the actions, before what was left of earlier rounds.
        events.extend(next.into_iter().rev());
    }
}

/// Reads frames as a connection does, until one cannot be read.
fn receive(mut bytes: &[u8], core: &mut Core) {
    while let Ok(Decoded::Whole(frame, length)) = decode(bytes) {
        bytes = &bytes[length..];
        if frame.kind == Kind::Messages {
            let Ok(messages) = messages(frame.payload) else { return };
            for message in messages {
                let again = message.encode().expect("what was read can be written");
                assert_eq!(Message::decode(&again).as_ref(), Ok(&message));
                if message.to() == 1 && (2..=3).contains(&message.from()) {
                    drive(core, Event::Receive(message));
                }
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let mut config = Config::new(1, 1);
    config.seed = Some(1);
    let founding = Recovered::founding(Membership::of_voters([1, 2, 3]));
    let log = Logger::root(Discard, o!());
    let mut core = Core::new(config, founding, 1, &log).expect("a founding member starts");
    match input {
        Input::Raw(bytes) => {
            if let Some(hello) = bytes.first_chunk::<HELLO_BYTES>() {
                let _ = Hello::decode(hello);
            }
            if let Some(welcome) = bytes.first_chunk::<WELCOME_BYTES>() {
                let _ = Welcome::decode(welcome, VERSIONS);
            }
            receive(&bytes, &mut core);
            read(&bytes);
        }
        Input::Named { outer, fields, cut } => {
            let mut bytes = vec![0x81];
            // As short as it is written, which is what is looked for in the log.
            let outer = NAMES[usize::from(outer) % NAMES.len()];
            bytes.push(0xa0 | outer.len() as u8);
            bytes.extend_from_slice(outer.as_bytes());
            match &fields[..] {
                [(0, value)] => value.encode(&mut bytes),
                fields => structure(fields, &mut bytes),
            }
            let cut = cut.map_or(0, usize::from).min(bytes.len());
            read(&bytes[..bytes.len() - cut]);
        }
        Input::Reference { numbers: [term, index, bytes], hash, changed } => {
            let mut bytes = SnapshotReference { term, index, bytes, hash }.to_bytes();
            if let Some((at, byte)) = changed {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            read(&bytes);
        }
        Input::Parcel { version, count, base, lengths, bytes } => {
            let mut head = b"fsmdbCHG".to_vec();
            head.extend_from_slice(&u32::from(version % 3).to_le_bytes());
            head.extend_from_slice(&u32::from(count).to_le_bytes());
            std::iter::once(&base).chain(&lengths).for_each(|number| {
                head.extend_from_slice(&number.to_le_bytes());
            });
            head.resize(head.len() + usize::from(bytes), 0);
            read(&head);
        }
        Input::Sealed(messages) => {
            messages.iter().for_each(|message| receive(&sealed(message), &mut core));
        }
        Input::Fields(messages) => {
            for (fields, ticks) in messages {
                (0..ticks % 32).for_each(|_| drive(&mut core, Event::Tick));
                receive(&sealed(&fields.encode()), &mut core);
            }
        }
    }
});
