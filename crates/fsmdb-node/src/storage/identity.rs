//! Whose a data directory is: the identity file.
//!
//! A few lines of text and a checksum over them, so that an operator can read it.
//!
//! # Invariants
//!
//! 1. `parse(print(x)) == x`, and nothing else parses.

use std::fmt;
use std::str::FromStr;

/// The format of identity files that this version writes, and the only one that it reads.
const FORMAT: &str = "fsmdb-node 1";

/// Which node of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster: random bits that were chosen once, when it was founded.
    pub cluster: u128,
    /// The node's id in the group; not 0, and never used again after its removal.
    pub node: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:032x}", self.node, self.cluster)
    }
}

/// What the identity file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: Identity,
    /// Random bits of this directory: a node that was wiped comes back with others.
    pub(super) incarnation: u128,
    /// How often the directory was opened.
    pub(super) boot: u64,
    /// Whether a log was begun: from then on one that is gone is a lost one.
    pub(super) has_log: bool,
}

impl Record {
    pub(super) fn print(&self) -> String {
        let Self { identity, incarnation, boot, has_log } = self;
        let text = format!(
            "{FORMAT}\ncluster {:032x}\nnode {}\nincarnation {incarnation:032x}\nboot {boot}\n\
             log {}\n",
            identity.cluster,
            identity.node,
            if *has_log { "begun" } else { "none" },
        );
        let checksum = crc32c::crc32c(text.as_bytes());
        format!("{text}crc32c {checksum:08x}\n")
    }

    /// Reads back what [`print`](Self::print) wrote; an error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if first != FORMAT {
            return Err(format!("it begins with {first:?}, this version reads {FORMAT:?}"));
        }
        let mut field = |name: &str| {
            let line = lines.next().unwrap_or_default();
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            value.ok_or_else(|| format!("it has no {name}"))
        };
        let record = Self {
            identity: Identity {
                cluster: hexadecimal("cluster", field("cluster")?)?,
                node: number("node", field("node")?)?,
            },
            incarnation: hexadecimal("incarnation", field("incarnation")?)?,
            boot: number("boot", field("boot")?)?,
            has_log: field("log")? == "begun",
        };
        // Whatever was changed, it would be printed otherwise, checksum included.
        if record.print() == text { Ok(record) } else { Err("its checksum is wrong".to_owned()) }
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("its {name} is not a number"))
}

fn hexadecimal(name: &str, text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16).map_err(|_| format!("its {name} is not a hexadecimal number"))
}
