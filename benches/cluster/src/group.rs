//! Three processes of fsmdb-node on loopback, and orders to each.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::load::{Plan, Sample};
use crate::ports;
use crate::replica::{Order, Told};

/// How long the group may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the clients of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// In the process of the leader.
    Leader,
    /// In the process of another replica, which asks the leader over TCP.
    Follower,
}

/// A running group, killed when dropped.
pub(crate) struct Group {
    replicas: Vec<Replica>,
}

struct Replica {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    fn ask(&mut self, order: Order) -> Result<Told> {
        writeln!(self.orders, "{}", serde_json::to_string(&order)?)?;
        let line = self.answers.next().context("a replica of fsmdb has ended")??;
        match serde_json::from_str(&line)? {
            Told::Failed(reason) => bail!("fsmdb: {reason}"),
            told => Ok(told),
        }
    }

    fn leads(&mut self) -> Result<bool> {
        Ok(matches!(self.ask(Order::Role)?, Told::Role { leads: true }))
    }
}

impl Group {
    /// Starts `count` processes of this program with their data under `folder`.
    pub(crate) fn start(folder: &Path, count: usize) -> Result<Self> {
        let ports = ports::free(count)?;
        let members =
            ports.iter().enumerate().map(|(n, port)| format!("{}=127.0.0.1:{port}", n + 1));
        let members = members.collect::<Vec<_>>().join(",");
        let mut group = Self { replicas: Vec::new() };
        for id in 1..=count {
            let mut process = Command::new(std::env::current_exe()?)
                .args(["replica", "--id", &id.to_string(), "--members", &members, "--folder"])
                .arg(folder.join(format!("fsmdb-{id}")))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("a replica of fsmdb does not start")?;
            let orders = process.stdin.take().context("no standard input")?;
            let answers = process.stdout.take().context("no standard output")?;
            let answers = BufReader::new(answers).lines();
            group.replicas.push(Replica { process, orders, answers });
        }
        Ok(group)
    }

    /// Puts every key once.
    pub(crate) fn fill(&mut self) -> Result<()> {
        self.at(Place::Leader)?.ask(Order::Fill).map(drop)
    }

    /// Lets clients run.
    pub(crate) fn run(&mut self, place: Place, plan: Plan) -> Result<Sample> {
        match self.at(place)?.ask(Order::Run(plan))? {
            Told::Sample(sample) => Ok(sample),
            other => bail!("fsmdb: {other:?} is no sample"),
        }
    }

    /// The leader of now, or the first of the others.
    fn at(&mut self, place: Place) -> Result<&mut Replica> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for n in 0..self.replicas.len() {
                if self.replicas[n].leads()? {
                    let n = if place == Place::Leader { n } else { usize::from(n == 0) };
                    return Ok(&mut self.replicas[n]);
                }
            }
            if Instant::now() > deadline {
                bail!("fsmdb: no leader in time");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            // It may have ended by itself; then there is nothing to kill or wait for.
            let _ = replica.process.kill();
            let _ = replica.process.wait();
        }
    }
}
