//! One replica of a trial: a node over its directory and TCP, and lines for clients on loopback.
//!
//! It ends when it is told to, or when its node fails, with the reason on standard error.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::Parser;
use fsmdb::raft::{Consistency, ProposeError};
use fsmdb::{Db, Machine};
use fsmdb_node::node::{MemberError, Options, Session, SessionError};
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use fsmdb_trial::history::{Answer, CallId, Operation};
use fsmdb_trial::registers::{Command, Entry, Register, Registers};
use fsmdb_trial::wire::{Reply, Request, Status};
use slog::{Drain, KV, Logger, OwnedKVList, Record, Serializer, o};

/// One replica of a trial.
#[derive(Debug, Parser)]
struct Arguments {
    /// Its id.
    #[arg(long)]
    id: u64,
    /// Where clients reach it.
    #[arg(long)]
    client: SocketAddr,
    /// Where this process listens for other replicas.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the replicas reach each other: `1=host:port,2=host:port`.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Whether it waits to be added to a group, rather than founds one of these peers.
    #[arg(long)]
    join: bool,
    /// Where its data is.
    #[arg(long)]
    data_dir: PathBuf,
    /// Milliseconds of a tick; a lost leader is replaced after 10 to 20 of them.
    #[arg(long, default_value_t = 15)]
    tick: u64,
    /// Entries between two snapshots.
    #[arg(long, default_value_t = 2_000)]
    snapshot_every: u64,
}

#[derive(Clone, Debug)]
struct Peer {
    id: u64,
    address: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text.split_once('=').ok_or("id=host:port")?;
        let id = id.parse().map_err(|_| format!("{id} is no id"))?;
        Ok(Self { id, address: address.to_owned() })
    }
}

/// The cluster of all trials.
const CLUSTER: u128 = 0x7472_6961_6c00;
/// How long a call may take before its outcome is told as unknown.
const DEADLINE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let logger = Logger::root(Lines.ignore_res(), o!());
    let tables = Db::builder().table::<Register>().table::<Entry>().keep_digests();
    let machine = Machine::new(with_tables(tables).build()?, Sessions::new(Registers))?;
    let members: BTreeMap<u64, String> =
        arguments.peers.iter().map(|peer| (peer.id, peer.address.clone())).collect();
    let identity = Identity { cluster: CLUSTER, node: arguments.id };
    let security = Security::insecure_loopback_only();
    let options = Options {
        tick: Duration::from_millis(arguments.tick),
        deadline: DEADLINE,
        ..Options::default()
    };
    // Small, so that a trial of a minute sees files end and be purged.
    let log = LogOptions { file_bytes: 1 << 20, purge_bytes: 4 << 20, prefill_bytes: 0 };
    let (folder, listen) = (&arguments.data_dir, arguments.listen);
    let setup = Setup::new(identity, machine, folder, listen, security, logger)
        .options(options)
        .log(log)
        .snapshots(arguments.snapshot_every, arguments.snapshot_every / 4);
    let setup = if arguments.join { setup.addresses(members) } else { setup.founds(members) };
    let node = Node::start(setup)?;
    let listener = TcpListener::bind(arguments.client)?;
    let clients = node.clone();
    thread::spawn(move || serve(&listener, &clients));
    let mut status = node.status();
    while status.is_running {
        status = match node.status_changed(status.version).wait(Duration::from_secs(1)) {
            Some(status) => status,
            None => node.status(),
        };
    }
    Err(status.error.map_or("the node has stopped".into(), |error| error.to_string().into()))
}

fn serve(listener: &TcpListener, node: &Node<Registers>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let node = node.clone();
        thread::spawn(move || {
            // A client that is gone needs no answer.
            let _ = answer(stream, &node);
        });
    }
}

/// Answers the lines of one client.
fn answer(stream: TcpStream, node: &Node<Registers>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = BufWriter::new(stream.try_clone()?);
    let mut session = None;
    for line in BufReader::new(stream).lines() {
        match line?.parse() {
            Ok(Request::Call { id, key, operation }) => {
                let reply = match Command::of(id, key, operation) {
                    Some(command) => write(node, &mut session, id, &command),
                    None => read(node, key),
                };
                writeln!(writer, "{reply}")?;
            }
            Ok(Request::Journal { from }) => {
                let snapshot = node.read_stale();
                for entry in snapshot.table::<Entry>().range(from..) {
                    writeln!(writer, "{}", Reply::Entry(entry.applied()))?;
                }
                writeln!(writer, "{}", Reply::End)?;
            }
            Ok(Request::Status) => writeln!(writer, "{}", Reply::Status(status(node)?))?,
            Ok(Request::Add { id, address }) => {
                let added = node.add_learner(id, &address).wait();
                writeln!(writer, "{}", changed(added))?;
            }
            Ok(Request::Promote { id }) => {
                writeln!(writer, "{}", changed(node.promote(id).wait()))?;
            }
            Ok(Request::Remove { id }) => {
                let removed = match node.remove(id).wait() {
                    // Asked for again: it was removed before.
                    Err(MemberError::NoSuchMember { .. }) => Ok(()),
                    other => other,
                };
                writeln!(writer, "{}", changed(removed))?;
            }
            Ok(Request::Stop) => {
                node.stop();
                process::exit(0);
            }
            Err(misunderstood) => {
                writeln!(writer, "{}", Reply::Refused(misunderstood.to_string()))?;
            }
        }
        writer.flush()?;
    }
    Ok(())
}

/// Clients with even numbers write through a session, which tries again; the others once.
fn write(
    node: &Node<Registers>,
    session: &mut Option<Session<Registers>>,
    id: CallId,
    command: &Command,
) -> Reply {
    let outcome = if id.client.is_multiple_of(2) {
        let open = match session.take() {
            Some(session) => session,
            None => match node.session().wait() {
                Ok(session) => session,
                // The command itself was not sent.
                Err(error) => return Reply::Refused(format!("no session: {error}")),
            },
        };
        let outcome = open.propose(command).wait();
        *session = Some(open);
        outcome
    } else {
        node.propose(command).wait().map_err(SessionError::from)
    };
    match outcome {
        Ok((at, Ok(done))) => Reply::Done { revision: at.index, answer: Answer::Done(done) },
        Ok((at, Err(error))) => Reply::Refused(format!("at {at}: {error}")),
        Err(SessionError::Propose(error)) if error.is_retryable() => {
            Reply::Refused(error.to_string())
        }
        Err(SessionError::Propose(ProposeError::Unknown)) => Reply::Unknown,
        Err(error) => {
            *session = None;
            eprintln!("{id}: {error}");
            Reply::Unknown
        }
    }
}

fn read(node: &Node<Registers>, key: u64) -> Reply {
    match node.read(Consistency::Linearizable).wait() {
        Ok(snapshot) => {
            let (_, answer) = Operation::Get
                .apply(snapshot.table::<Register>().get(&key).map(|register| register.value));
            Reply::Done { revision: snapshot.applied().index, answer }
        }
        Err(error) => Reply::Refused(error.to_string()),
    }
}

fn changed(outcome: Result<(), MemberError>) -> Reply {
    match outcome {
        Ok(()) => Reply::Changed,
        Err(error) => Reply::Refused(error.to_string()),
    }
}

fn status(node: &Node<Registers>) -> io::Result<Status> {
    let status = node.status();
    let snapshot = node.read_stale();
    let digest = snapshot.digests().map_err(io::Error::other)?.database().to_string();
    Ok(Status {
        id: status.raft.id,
        leads: status.is_leader(),
        leader: status.raft.leader.unwrap_or(0),
        term: status.raft.term,
        applied: snapshot.applied().index,
        digest,
    })
}

/// Writes each record as one line to standard error.
struct Lines;

impl Drain for Lines {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let mut pairs = Pairs(String::new());
        // Writing to a string does not fail.
        let _ = record.kv().serialize(record, &mut pairs);
        let _ = values.serialize(record, &mut pairs);
        writeln!(io::stderr(), "{} {}{}", record.level(), record.msg(), pairs.0)
    }
}

struct Pairs(String);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        use fmt::Write;
        write!(self.0, ", {key}: {value}").map_err(slog::Error::from)
    }
}
