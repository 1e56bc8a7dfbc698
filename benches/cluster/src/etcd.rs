//! Three processes of etcd on loopback, and clients of its leader.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, GetOptions};

use crate::load::Service;
use crate::{load, ports};

/// Connections that clients share, as a program would.
const CONNECTIONS: usize = 16;
/// How long the group may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running group, killed when dropped.
pub(crate) struct Etcd {
    processes: Vec<Child>,
    clients: Vec<Client>,
}

impl Etcd {
    /// Starts `count` processes of `binary` with their data under `folder`.
    pub(crate) async fn start(binary: &Path, folder: &Path, count: usize) -> Result<Self> {
        let free = ports::free(2 * count)?;
        let peer = |n: usize| format!("http://127.0.0.1:{}", free[n]);
        let client = |n: usize| format!("http://127.0.0.1:{}", free[count + n]);
        let group: Vec<String> = (0..count).map(|n| format!("n{n}={}", peer(n))).collect();
        let mut processes = Vec::new();
        for n in 0..count {
            let process = Command::new(binary)
                .args(["--name", &format!("n{n}"), "--log-level", "error"])
                .arg("--data-dir")
                .arg(folder.join(format!("etcd-{n}")))
                .args(["--listen-peer-urls", &peer(n)])
                .args(["--initial-advertise-peer-urls", &peer(n)])
                .args(["--listen-client-urls", &client(n)])
                .args(["--advertise-client-urls", &client(n)])
                .args(["--initial-cluster", &group.join(",")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("etcd does not start")?;
            processes.push(process);
        }
        // From here on a failure drops the processes.
        let mut etcd = Self { processes, clients: Vec::new() };
        let leader = tokio::time::timeout(PATIENCE, leader((0..count).map(client).collect()));
        let leader = leader.await.context("no leader in time")??;
        for _ in 0..CONNECTIONS {
            etcd.clients.push(Client::connect([&leader], None).await?);
        }
        Ok(etcd)
    }
}

/// The address of the member that leads.
async fn leader(addresses: Vec<String>) -> Result<String> {
    loop {
        for address in &addresses {
            let Ok(mut client) = Client::connect([address], None).await else { continue };
            let Ok(status) = client.status().await else { continue };
            let is_leader = status.leader() != 0
                && status.header().is_some_and(|header| header.member_id() == status.leader());
            if is_leader {
                return Ok(address.clone());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Service for Etcd {
    async fn put(&self, client: usize, key: u64, value: Vec<u8>) -> Result<()> {
        let mut connection = self.clients[client % self.clients.len()].kv_client();
        connection.put(load::key(key), value, None).await?;
        Ok(())
    }

    async fn get(&self, client: usize, key: u64, is_stale: bool) -> Result<Vec<u8>> {
        let mut connection = self.clients[client % self.clients.len()].kv_client();
        let options = is_stale.then(|| GetOptions::new().with_serializable());
        let found = connection.get(load::key(key), options).await?;
        match found.kvs() {
            [pair] => Ok(pair.value().to_vec()),
            others => bail!("one key, {} values", others.len()),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended by itself; then there is nothing to kill or wait for.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
