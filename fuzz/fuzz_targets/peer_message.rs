//! Hostile peers: no bytes on a connection make a node panic, or allocate by their own word.
//!
//! Three kinds of input: raw bytes; frames with right checksums around hostile messages; and
//! messages with the right fields and any numbers in them. What can be read goes into a core that
//! runs, as a transport would hand it in.

#![no_main]

use arbitrary::Arbitrary;
use fsmdb::raft::{Action, Config, Core, Event, Membership, Message, Recovered};
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
