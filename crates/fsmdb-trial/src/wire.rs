//! The lines that clients and replicas of a trial exchange: one request, one answer, in words.
//!
//! # Invariants
//!
//! 1. `parse(print(x)) == x` for every line.
//! 2. A line that is not understood is an error, never another line.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use crate::history::{Answer, CallId, Operation};
use crate::witnessed::Applied;

/// What a client asks of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A call on a register; a read is linearizable.
    Call {
        /// Its name.
        id: CallId,
        /// The register.
        key: u64,
        /// What is asked.
        operation: Operation,
    },
    /// The journal from a revision on.
    Journal {
        /// The first revision of interest.
        from: u64,
    },
    /// What the replica says of itself.
    Status,
    /// Add a replica that was started and waits for it.
    Add {
        /// Its id.
        id: u64,
        /// Where others reach it; a single word.
        address: String,
    },
    /// Make a replica that was added a voter.
    Promote {
        /// Its id.
        id: u64,
    },
    /// Remove a replica for ever.
    Remove {
        /// Its id.
        id: u64,
    },
    /// Hand leadership over, and end.
    Stop,
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The call was answered.
    Done {
        /// The revision at which it was applied, or as of which it was read.
        revision: u64,
        /// The answer.
        answer: Answer,
    },
    /// The call may have been applied, or will be.
    Unknown,
    /// The call was not applied and never will be.
    Refused(String),
    /// One entry of the journal; more lines follow.
    Entry(Applied),
    /// What the replica says of itself.
    Status(Status),
    /// The members are as they were asked to be.
    Changed,
    /// The end of an answer of several lines.
    End,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub id: u64,
    /// Whether it leads.
    pub leads: bool,
    /// The leader it knows of; 0 for none.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// The last index it has applied.
    pub applied: u64,
    /// The digest of its database at that index.
    pub digest: String,
}

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not understood: {0:?}")]
pub struct Misunderstood(pub String);

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { id, key, operation } => {
                write!(f, "call {} {} {key} ", id.client, id.sequence)?;
                write_operation(f, *operation)
            }
            Self::Journal { from } => write!(f, "journal {from}"),
            Self::Status => f.write_str("status"),
            Self::Add { id, address } => write!(f, "add {id} {address}"),
            Self::Promote { id } => write!(f, "promote {id}"),
            Self::Remove { id } => write!(f, "remove {id}"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { revision, answer: Answer::Value(found) } => {
                write!(f, "value {revision} {}", Maybe(*found))
            }
            Self::Done { revision, answer: Answer::Done(done) } => {
                write!(f, "done {revision} {done}")
            }
            Self::Unknown => f.write_str("unknown"),
            Self::Refused(reason) => write!(f, "refused {}", reason.replace(['\n', '\r'], " ")),
            Self::Entry(Applied { revision, id, key, operation }) => {
                write!(f, "entry {revision} {} {} {key} ", id.client, id.sequence)?;
                write_operation(f, *operation)
            }
            Self::Status(Status { id, leads, leader, term, applied, digest }) => {
                write!(f, "status {id} {leads} {leader} {term} {applied} {digest}")
            }
            Self::Changed => f.write_str("changed"),
            Self::End => f.write_str("end"),
        }
    }
}

fn write_operation(f: &mut fmt::Formatter<'_>, operation: Operation) -> fmt::Result {
    match operation {
        Operation::Get => f.write_str("get"),
        Operation::Put(value) => write!(f, "put {value}"),
        Operation::Swap { expected, value } => write!(f, "swap {} {value}", Maybe(expected)),
    }
}

/// A number, or `-` for none.
struct Maybe(Option<u64>);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("-"),
        }
    }
}

/// The words of one line.
struct Words<'a> {
    line: &'a str,
    words: SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        Self { line, words: line.split_whitespace() }
    }

    fn wrong(&self) -> Misunderstood {
        Misunderstood(self.line.to_owned())
    }

    fn word(&mut self) -> Result<&'a str, Misunderstood> {
        self.words.next().ok_or_else(|| self.wrong())
    }

    fn take<T: FromStr>(&mut self) -> Result<T, Misunderstood> {
        self.word()?.parse().map_err(|_| self.wrong())
    }

    fn maybe(&mut self) -> Result<Option<u64>, Misunderstood> {
        match self.word()? {
            "-" => Ok(None),
            word => word.parse().map(Some).map_err(|_| self.wrong()),
        }
    }

    fn call(&mut self) -> Result<(CallId, u64, Operation), Misunderstood> {
        let id = CallId { client: self.take()?, sequence: self.take()? };
        let key = self.take()?;
        let operation = match self.word()? {
            "get" => Operation::Get,
            "put" => Operation::Put(self.take()?),
            "swap" => Operation::Swap { expected: self.maybe()?, value: self.take()? },
            _ => return Err(self.wrong()),
        };
        Ok((id, key, operation))
    }

    fn end<T>(mut self, parsed: T) -> Result<T, Misunderstood> {
        match self.words.next() {
            None => Ok(parsed),
            Some(_) => Err(self.wrong()),
        }
    }
}

impl FromStr for Request {
    type Err = Misunderstood;

    fn from_str(line: &str) -> Result<Self, Misunderstood> {
        let mut words = Words::of(line);
        let request = match words.word()? {
            "call" => {
                let (id, key, operation) = words.call()?;
                Self::Call { id, key, operation }
            }
            "journal" => Self::Journal { from: words.take()? },
            "status" => Self::Status,
            "add" => Self::Add { id: words.take()?, address: words.take()? },
            "promote" => Self::Promote { id: words.take()? },
            "remove" => Self::Remove { id: words.take()? },
            "stop" => Self::Stop,
            _ => return Err(words.wrong()),
        };
        words.end(request)
    }
}

impl FromStr for Reply {
    type Err = Misunderstood;

    fn from_str(line: &str) -> Result<Self, Misunderstood> {
        let mut words = Words::of(line);
        let reply = match words.word()? {
            "value" => {
                let (revision, answer) = (words.take()?, Answer::Value(words.maybe()?));
                Self::Done { revision, answer }
            }
            "done" => {
                let (revision, answer) = (words.take()?, Answer::Done(words.take()?));
                Self::Done { revision, answer }
            }
            "unknown" => Self::Unknown,
            "refused" => {
                let reason = line.trim_start().strip_prefix("refused").unwrap_or_default();
                return Ok(Self::Refused(reason.trim().to_owned()));
            }
            "entry" => {
                let revision = words.take()?;
                let (id, key, operation) = words.call()?;
                Self::Entry(Applied { revision, id, key, operation })
            }
            "status" => Self::Status(Status {
                id: words.take()?,
                leads: words.take()?,
                leader: words.take()?,
                term: words.take()?,
                applied: words.take()?,
                digest: words.take()?,
            }),
            "changed" => Self::Changed,
            "end" => Self::End,
            _ => return Err(words.wrong()),
        };
        words.end(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_comes_back_as_it_went() {
        let id = CallId { client: 3, sequence: 9 };
        let operations = [
            Operation::Get,
            Operation::Put(5),
            Operation::Swap { expected: None, value: 6 },
            Operation::Swap { expected: Some(5), value: 6 },
        ];
        for operation in operations {
            let request = Request::Call { id, key: 2, operation };
            assert_eq!(request.to_string().parse(), Ok(request));
            let reply = Reply::Entry(Applied { revision: 8, id, key: 2, operation });
            assert_eq!(reply.to_string().parse(), Ok(reply));
        }
        let address = "127.0.0.1:4".to_owned();
        let requests = [
            Request::Journal { from: 7 },
            Request::Status,
            Request::Add { id: 4, address },
            Request::Promote { id: 4 },
            Request::Remove { id: 1 },
            Request::Stop,
        ];
        for request in requests {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        let digest = "ab12".to_owned();
        let status = Status { id: 1, leads: true, leader: 1, term: 4, applied: 99, digest };
        let answers = [Answer::Value(None), Answer::Value(Some(4)), Answer::Done(false)];
        let done = answers.map(|answer| Reply::Done { revision: 8, answer });
        let others = [
            Reply::Unknown,
            Reply::Refused("no leader: try again".to_owned()),
            Reply::Status(status),
            Reply::Changed,
            Reply::End,
        ];
        for reply in done.into_iter().chain(others) {
            assert_eq!(reply.to_string().parse(), Ok(reply));
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "call", "call 1 2 3 put", "call 1 2 3 put 4 5", "status now", "add 4"] {
            assert_eq!(line.parse::<Request>(), Err(Misunderstood(line.to_owned())));
        }
        for line in ["", "done 1", "done 1 maybe", "value 1 -1", "entry 1 2 3 4 jump"] {
            assert_eq!(line.parse::<Reply>(), Err(Misunderstood(line.to_owned())));
        }
    }
}
