//! The form of encoded messages and entries, looked over before a parser sees them.
//!
//! The parser of protobuf 2 skips an unknown group by calling itself for each group in it, so that
//! some megabytes of one byte overflow its stack (RUSTSEC-2024-0437). No message of Raft has a
//! group; so one that has is refused, by walking the fields as that parser would, and no deeper
//! than the messages themselves go.
//!
//! # Invariants
//!
//! 1. A walk goes into as many levels as [`Shape`]s are nested, whatever the bytes are.
//! 2. Entries that change the membership are parsed once more when they are applied, so the walk
//!    goes into their data too.

/// Which fields of a message are messages themselves.
struct Shape {
    inner: &'static [(u64, &'static Shape)],
    /// The field that says what kind of entry this is, and the one whose content depends on it.
    entry: Option<(u64, u64)>,
}

const fn shape(inner: &'static [(u64, &'static Shape)]) -> Shape {
    Shape { inner, entry: None }
}

static PLAIN: Shape = shape(&[]);
static CHANGE: Shape = shape(&[(2, &PLAIN)]);
static ENTRY: Shape = Shape { inner: &[], entry: Some((1, 4)) };
static METADATA: Shape = shape(&[(1, &PLAIN)]);
static SNAPSHOT: Shape = shape(&[(2, &METADATA)]);
static MESSAGE: Shape = shape(&[(7, &ENTRY), (9, &SNAPSHOT)]);

/// Whether the bytes have the form of a message without groups. O(their length).
pub(super) fn is_flat_message(bytes: &[u8]) -> bool {
    walk(bytes, &MESSAGE).is_some()
}

/// Whether the bytes have the form of an entry without groups. O(their length).
pub(super) fn is_flat_entry(bytes: &[u8]) -> bool {
    walk(bytes, &ENTRY).is_some()
}

fn walk(mut bytes: &[u8], shape: &Shape) -> Option<()> {
    let mut is_change = false;
    let mut data: &[u8] = &[];
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = tag >> 3;
        match tag & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                is_change |= shape.entry.is_some_and(|(kind, _)| kind == field) && value != 0;
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                if let Some((_, inner)) = shape.inner.iter().find(|(number, _)| *number == field) {
                    walk(content, inner)?;
                }
                if shape.entry.is_some_and(|(_, number)| number == field) {
                    data = content; // the last one counts, as it does for the parser
                }
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    if is_change { walk(data, &CHANGE) } else { Some(()) }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{is_flat_entry, is_flat_message};
    use crate::raft::{Entry, Message, RaftError};

    /// Deep enough to overflow the stack of any thread of a test.
    const DEEP: usize = 100_000;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).expect("seven bits"));
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn groups_within_groups_are_refused_wherever_they_stand() {
        let (begins, ends) = (vec![0x7b; DEEP], vec![0x7c; DEEP]);
        let closed = [&begins[..], &ends[..]].concat();
        let change = [0x08, 0x02];
        for groups in [&begins, &closed] {
            let wrapped = |path: &[u8]| {
                path.iter().rev().fold(groups.clone(), |inner, number| field(*number, &inner))
            };
            let as_data = [&change[..], &wrapped(&[4])].concat();
            let in_change = [&change[..], &wrapped(&[4, 2])].concat();
            for entry in [groups.clone(), as_data, in_change] {
                let refused = Entry::decode(&entry).expect_err("too deep");
                assert!(matches!(refused, RaftError::Decode { what: "entry", .. }), "{refused}");
                let message = field(7, &entry);
                let refused = Message::decode(&message).expect_err("too deep");
                assert!(matches!(refused, RaftError::Decode { what: "message", .. }), "{refused}");
            }
            for path in [&[][..], &[7], &[9], &[9, 2], &[9, 2, 1]] {
                let refused = Message::decode(&wrapped(path)).expect_err("too deep");
                assert!(matches!(refused, RaftError::Decode { what: "message", .. }), "{refused}");
            }
        }
        let command = Entry::decode(&field(4, &begins)).expect("a command is anything");
        assert_eq!(command.command(), Some(&begins[..]));
    }

    #[test]
    fn an_entry_is_looked_over_as_one_in_a_message_is() {
        let group = [0x0b, 0x0c];
        assert!(!is_flat_entry(&group));
        assert!(!is_flat_entry(&[&[0x08, 0x01], &field(4, &field(2, &group))[..]].concat()));
        assert!(is_flat_entry(&field(4, &group)));
    }

    #[test]
    fn groups_are_found_wherever_the_parser_would_go() {
        let group = [0x0b, 0x0c];
        let change = [0x08, 0x01];
        assert!(!is_flat_message(&group));
        assert!(!is_flat_message(&field(7, &group)), "in an entry");
        assert!(!is_flat_message(&field(9, &field(2, &field(1, &group)))), "in a membership");
        let entry = [&change[..], &field(4, &field(2, &group))].concat();
        assert!(!is_flat_message(&field(7, &entry)), "in a change of the membership");
        let entry = [field(4, &group), change.to_vec()].concat();
        assert!(!is_flat_message(&field(7, &entry)), "before it says that it is one");
    }

    #[test]
    fn the_data_of_commands_and_references_may_be_anything() {
        let group = [0x0b, 0x0b, 0xff];
        assert!(is_flat_message(&field(7, &field(4, &group))));
        assert!(is_flat_message(&field(9, &field(1, &group))));
        assert!(is_flat_message(&field(12, &group)), "a context");
        assert!(is_flat_message(&[]));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert!(!is_flat_message(&[0x3a, 5, 0]));
        assert!(!is_flat_message(&[0x08]));
        assert!(!is_flat_message(&[0x80; 11]));
    }
}
