//! A disk that is full: a file system of memory, which root alone may mount.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::trial::Trial;

/// Has the disk that fills up.
const FULL: u64 = 3;
/// How long it may take until the file that its log has begun is full.
const FILL_TIME: Duration = Duration::from_secs(120);

/// A small disk; it goes when this is dropped.
struct Disk(TempDir);

impl Disk {
    /// Puts one where a replica will have its data; `None` when this machine does not allow it.
    fn mount(data: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = ["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"];
        if !run("mount", &arguments, folder.path()) {
            return None;
        }
        symlink(folder.path(), data).expect("a link");
        Some(Self(folder))
    }

    /// Takes all space that is left; answers how much that was.
    fn fill(&self) -> usize {
        let mut ballast = File::create(self.0.path().join("ballast")).expect("a file");
        let piece = [1; 4096];
        let mut bytes = 0;
        loop {
            match ballast.write(&piece) {
                Ok(written) => bytes += written,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return bytes,
                Err(error) => panic!("no ballast: {error}"),
            }
        }
    }

    fn grow(&self) {
        assert!(run("mount", &["-o", "remount,size=64m"], self.0.path()), "it grows");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], self.0.path());
    }
}

fn run(command: &str, arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new(command);
    let command = command.args(arguments).arg(at).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_replica_whose_disk_is_full_stops_and_says_so_and_comes_back_when_there_is_space() {
    let mut disk = None;
    let at = |folder: &Path| folder.join(format!("data-{FULL}"));
    let mut trial = Trial::start_prepared(51, |folder| disk = Disk::mount(&at(folder)));
    let Some(disk) = disk else {
        println!("SKIPPED: this machine mounts no disk of memory for this user");
        trial.finish();
        return;
    };
    assert!(disk.fill() > 0, "there was space");
    let words = falls(&mut trial);
    assert!(words.contains("no space left on its disk"), "the reason is not told: {words}");
    trial.replicas.kill(FULL).expect("it is gone");
    trial.goes_on("while one replica is gone");
    // As long as the disk is full it does not start, for the same reason.
    trial.replicas.restart(FULL).expect("tried");
    let words = falls(&mut trial);
    let last = words.lines().last().unwrap_or_default();
    assert!(last.contains("No space left on device"), "the reason is not told: {words}");
    trial.replicas.kill(FULL).expect("it is gone");
    disk.grow();
    trial.replicas.restart(FULL).expect("started");
    trial.goes_on("after there was space");
    trial.finish();
}

/// Waits until the replica has ended by itself; answers what it said at last.
fn falls(trial: &mut Trial) -> String {
    let replicas = &mut trial.replicas;
    let fallen = trial.clock.wait(FILL_TIME, || replicas.fallen().expect("looked at").pop());
    let (id, words) = fallen.expect("a replica with a full disk stops");
    assert_eq!(id, FULL, "another one stopped: {words}");
    words
}
