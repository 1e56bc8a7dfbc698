//! The program with voters that are processes: the leader is killed, all are restarted from disk,
//! and a later run on the same directory goes on from there.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Long for a busy machine; the program gives up then, so that no test hangs.
const LIMIT_SECONDS: &str = "90";

/// Two nodes, a service, and batch work that goes on until the leader is killed.
const JOBS: &str = r#"
[[node]]
name = "left"
cpu = 4000
memory = 4096

[[node]]
name = "right"
cpu = 4000
memory = 4096

[[job]]
name = "server"
kind = "service"
attempts = 3
cpu = 100
memory = 16
command = ["sh", "-c", "echo serving; exec sleep 600"]

[[job]]
name = "early"
kind = "batch"
count = 6
attempts = 3
cpu = 100
memory = 16
command = ["sh", "-c", "sleep 0.2; echo $ORDINAL"]

[[job]]
name = "middle"
kind = "batch"
count = 2
attempts = 3
cpu = 100
memory = 16
command = ["true"]

[[job]]
name = "late"
kind = "batch"
count = 2
attempts = 3
cpu = 100
memory = 16
command = ["true"]
"#;

/// One more than the jobs above.
const MORE: &str = r#"
[[job]]
name = "newcomer"
kind = "batch"
count = 3
cpu = 100
memory = 16
command = ["true"]
"#;

fn program(folder: &Path, jobs: &str) -> Command {
    let file = folder.join("jobs.toml");
    fs::write(&file, jobs).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    command.args(["--processes", "-o", "json", "--limit", LIMIT_SECONDS]);
    command.arg("--data-dir").arg(folder.join("data")).arg("--jobs").arg(file);
    command
}

/// The summary of a run that went well.
fn summary(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {told}\n{printed}", output.status);
    serde_json::from_str(&printed).unwrap()
}

/// What is to hold of every run.
fn assert_sound(summary: &Value) {
    assert_eq!(summary["ok"], true);
    assert_eq!(summary["lost"], 0);
    assert_eq!(summary["duplicates"], 0);
    assert_eq!(summary["replicas"], serde_json::json!([1, 2, 3, 4]));
    assert_eq!(summary["replicas_identical"], true);
    assert_eq!(summary["processes"]["state_kept"], true);
    // The leader that was killed, and the one of the cluster that came back from disk.
    assert!(summary["elections"].as_u64() >= Some(2), "{summary}");
}

#[test]
fn a_killed_leader_and_a_restart_of_all_lose_nothing_and_a_later_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = summary(&program(folder.path(), JOBS).output().unwrap());
    assert_sound(&first);
    let processes = &first["processes"];
    assert_eq!((&processes["jobs_found_ended"], &processes["started"]), (&0.into(), &11.into()));

    let second = summary(&program(folder.path(), &format!("{JOBS}{MORE}")).output().unwrap());
    assert_sound(&second);
    let processes = &second["processes"];
    // Only what is new has run.
    assert_eq!((&processes["jobs_found_ended"], &processes["started"]), (&4.into(), &3.into()));
    assert_eq!((&second["jobs"], &second["allocations"]), (&5.into(), &14.into()));
    assert!(second["entries_applied"].as_u64() > first["entries_applied"].as_u64());
}

/// Kills the program when it is dropped, in whatever way the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_that_was_killed_is_finished_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    // The batch work waits for a file, so the run is killed in the middle of it.
    let jobs = JOBS.replace(
        "sleep 0.2; echo $ORDINAL",
        &format!(
            "touch {0}/began; until [ -e {0}/go ]; do sleep 0.1; done",
            folder.path().display()
        ),
    );
    let mut command = program(folder.path(), &jobs);
    let mut run = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    while !folder.path().join("began").exists() {
        assert!(run.0.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(run);
    fs::write(folder.path().join("go"), "").unwrap();

    let next = summary(&program(folder.path(), &jobs).output().unwrap());
    assert_sound(&next);
    assert_eq!(next["jobs"], 4);
    // What ran when the program was killed has failed, and was tried again.
    assert!(next["allocations_by_state"]["failed"].as_u64() >= Some(1), "{next}");
}

#[test]
fn a_directory_is_not_taken_for_another_number_of_nodes() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let addresses: String = (0..6).map(|port| format!("127.0.0.1:{}\n", 19_000 + port)).collect();
    fs::write(folder.path().join("data/addresses"), addresses).unwrap();
    let output = program(folder.path(), JOBS).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("has the data of 5 voters: --nodes 5, not 3"), "{told}");
}
