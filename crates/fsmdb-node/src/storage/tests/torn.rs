//! The end of the newest file: what a crash may have torn is cut off, what was synced is not.

use std::fs;
use std::ops::Range;
use std::path::Path;

use fsmdb::Applied;
use fsmdb::raft::{Entry, LogError, LogStore, Membership, Recovered};

use super::samples::{IDENTITY, Place, SMALL, entry, hard_state, hollow_snapshot, quiet};
use crate::limits::LOG_WINDOW_BYTES;
use crate::storage::examining::{Verdict, judge};
use crate::storage::layout::LogFile;
use crate::storage::record::{Evidence, State};
use crate::storage::{DataDir, LogOptions, StorageError};

const ONE_FILE: LogOptions =
    LogOptions { file_bytes: 1 << 20, purge_bytes: 1 << 20, prefill_bytes: 0 };

/// A part of a file that a crash leaves whole or not at all.
const PAGE_BYTES: u64 = 512;

/// A batch of entries from an index on that fills more than a page.
fn batch(first: u64) -> Vec<Entry> {
    (first..first + 3).map(|index| entry(index, 1, &[index as u8; 400])).collect()
}

/// A log of synced batches and then of others, and what it held after each, the founding first.
fn written(place: &Place, synced: u64, unsynced: u64) -> Vec<Recovered> {
    let (_directory, mut log) = place.open_with(ONE_FILE).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    let mut states = vec![log.load().expect("it is sound")];
    for number in 0..synced + unsynced {
        let first = 2 + number * 3;
        let state = hard_state(1, 1 + number % 3, first - 1);
        log.append(&batch(first), Some(state), number < synced).expect("in order");
        states.push(log.load().expect("it is sound"));
    }
    states
}

/// Where the records of the newest file stand, by raft-engine's headers.
fn records(place: &Place) -> Vec<Range<usize>> {
    let path = place.log_files().pop().expect("there is one");
    let number = path.file_name().unwrap().to_string_lossy()[..16].parse().expect("a number");
    let mut file = LogFile::open(&path, number).expect("it can be read");
    let (mut at, signature) = file.header().expect("it can be read").expect("it has one");
    let mut found = Vec::new();
    while let Some(record) = file.record(at).expect("it can be read") {
        if !file.are_items_sound(&record, &[signature]).expect("it can be read") {
            break;
        }
        assert!(file.are_entries_sound(&record).expect("it can be read"));
        found.push(record.start as usize..record.end as usize);
        at = record.end;
    }
    found
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("it can be written");
}

/// How many batches are there, or why the log was refused.
fn batches(place: &Place, states: &[Recovered]) -> Result<usize, StorageError> {
    let (_directory, mut log) = place.open_with(ONE_FILE)?;
    let found = log.load().expect("the open has read it");
    let batches = states.iter().position(|state| *state == found);
    Ok(batches.unwrap_or_else(|| panic!("a part of a batch is there: {found:?}")))
}

#[test]
fn damage_to_what_was_synced_is_refused_by_file_and_byte_and_leaves_the_files_alone() {
    let place = Place::new();
    let states = written(&place, 5, 0);
    let records = records(&place);
    assert_eq!(records.len(), 1 + states.len(), "the first one begins the log");
    let last = records.last().expect("several").start;
    let headers = records.iter().flat_map(|record| record.start..record.start + 16);
    let headers = headers.filter(|at| *at < last);
    for (at, bit) in (0..last).step_by(53).chain(headers).zip((0..8).cycle()) {
        let copy = place.copy();
        let path = &copy.log_files()[0];
        change(path, |bytes| bytes[at] ^= 1 << bit);
        let damaged = fs::read(path).expect("it is there");
        let error = batches(&copy, &states).expect_err("it was synced");
        let start = records.iter().find(|record| record.contains(&at)).map_or(0, |r| r.start);
        match error {
            StorageError::BrokenLog { reason, .. } => {
                let named = format!("0000000000000001.raftlog is damaged at byte {start},");
                assert!(reason.contains(&named), "byte {at}: {reason}");
                assert_eq!(fs::read(path).expect("it is there"), damaged, "byte {at}");
            }
            // Of an entry whose place is known.
            StorageError::Log(LogError::Corrupt { index, .. }) => {
                assert!((2..17).contains(&index), "byte {at}: index {index}");
            }
            error => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn damage_to_the_last_record_is_taken_for_a_torn_end() {
    let place = Place::new();
    let states = written(&place, 3, 0);
    let last = records(&place).pop().expect("several");
    for (at, bit) in last.step_by(17).zip((0..8).cycle()) {
        let copy = place.copy();
        change(&copy.log_files()[0], |bytes| bytes[at] ^= 1 << bit);
        assert_eq!(batches(&copy, &states).expect("nothing says that it was synced"), 2);
    }
}

/// A copy in which some pages of what was not synced never reached the disk.
fn torn(place: &Place, from: usize, pages: u64, filler: u8) -> (Place, usize) {
    let copy = place.copy();
    let mut first = usize::MAX;
    change(&copy.log_files()[0], |bytes| {
        let end = bytes.len();
        let numbered = (from..end).step_by(PAGE_BYTES as usize).zip(0..);
        for (start, _) in numbered.filter(|(_, number)| pages & 1 << number != 0) {
            // Pages do not begin where the unsynced bytes begin.
            let page = start / PAGE_BYTES as usize * PAGE_BYTES as usize;
            let lost = page.max(from)..(page + PAGE_BYTES as usize).min(end);
            first = first.min(lost.start);
            bytes[lost].fill(filler);
        }
    });
    (copy, first)
}

#[test]
fn pages_of_unsynced_writes_that_are_lost_in_any_order_take_with_them_what_follows() {
    let place = Place::new();
    let states = written(&place, 2, 4);
    let records = records(&place);
    let from = records[4].start;
    for seed in 1..80_u64 {
        let pages = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50;
        let (copy, first) = torn(&place, from, pages, if seed % 2 == 0 { 0 } else { 0xA5 });
        let whole = records.iter().filter(|record| record.end <= first).count();
        let found = batches(&copy, &states).unwrap_or_else(|error| panic!("{pages:b}: {error}"));
        assert_eq!(found, whole - 2, "{pages:b}");
        // What is cut off does not come back.
        let (_directory, mut log) = copy.open_with(ONE_FILE).expect("it is sound");
        log.append(&[], Some(hard_state(77, 1, 1)), true).expect("it goes on");
        drop((_directory, log));
        let (_directory, mut log) = copy.open_with(ONE_FILE).expect("it is sound");
        assert_eq!(log.load().expect("it is sound").entries, states[found].entries);
    }
}

#[test]
fn a_later_sync_vouches_for_every_write_before_it() {
    let place = Place::new();
    written(&place, 2, 4);
    let (directory, mut log) = place.open_with(ONE_FILE).expect("it is sound");
    log.append(&[], None, true).expect("it is sound");
    log.append(&[], None, false).expect("it is sound");
    drop((directory, log));
    let from = records(&place)[4].start;
    for page in 0..8 {
        let (copy, first) = torn(&place, from, 1 << page, 0);
        assert!(first < usize::MAX);
        copy.open_with(ONE_FILE).expect_err("it was synced");
    }
}

/// A log whose third record holds an entry of so many zeros, and the fourth a short one.
fn with_a_large_record(bytes: usize, is_synced: bool) -> (Place, Range<usize>) {
    let place = Place::new();
    let (_directory, mut log) = place.open_with(ONE_FILE).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    log.append(&[entry(2, 1, &vec![0; bytes])], None, is_synced).expect("in order");
    log.append(&[entry(3, 1, b"three")], None, false).expect("in order");
    let killed = place.copy();
    let large = records(&killed)[2].clone();
    (killed, large)
}

#[test]
fn evidence_is_found_however_far_behind_the_damage() {
    let (_place, large) = with_a_large_record(3 * LOG_WINDOW_BYTES, true);
    let around = large.len() - 3 * LOG_WINDOW_BYTES;
    // The first window begins with the file, each later one with as much of the one before as is
    // too little for a header.
    let border = 3 * (LOG_WINDOW_BYTES - 15);
    for start in border - 10..border + 50 {
        let bytes = start - large.start - around;
        let (place, large) = with_a_large_record(bytes, true);
        assert_eq!(large.end, start);
        // Nothing but zeros from the header on to the evidence.
        change(&place.log_files()[0], |bytes| bytes[large.start..start].fill(0));
        let error = place.open_with(ONE_FILE).expect_err("it was synced");
        let named = format!("is damaged at byte {},", large.start);
        assert!(error.to_string().contains(&named), "{start}: {error}");
    }
    let (place, large) = with_a_large_record(3 * LOG_WINDOW_BYTES, false);
    change(&place.log_files()[0], |bytes| bytes[large.start + 3] ^= 1);
    let (_directory, mut log) = place.open_with(ONE_FILE).expect("it was not synced");
    assert_eq!(log.load().expect("it is sound").entries, []);
}

#[test]
fn an_open_syncs_what_the_process_before_may_have_only_written() {
    let place = Place::new();
    let (_directory, mut log) = place.founded();
    log.append(&[entry(2, 1, b"two")], None, false).expect("in order");
    let killed = place.copy();
    let (_directory, mut log) = killed.open().expect("it is sound");
    assert_eq!(log.load().expect("it is sound").entries.len(), 1);
    assert!(killed.disk.syncs() > 0);
}

#[test]
fn what_a_command_says_of_other_records_is_no_evidence() {
    // A record as it stands in the file, but for its stamp; with the right one it is evidence.
    // The file of that time, by its number, is needed as well.
    for (is_known, number, is_refused) in [(false, 1, false), (true, 0, false), (true, 1, true)] {
        let place = Place::new();
        let (_directory, mut log) = place.open_with(ONE_FILE).expect("an empty folder");
        log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
        let record = records(&place).pop().expect("the founding");
        let file = fs::read(&place.log_files()[0]).expect("it is there");
        let mut forged = file[record].to_vec();
        // At the end stand the stamp, two numbers and the checksum.
        let end = forged.len();
        forged[end - 28] ^= u8::from(!is_known);
        let items = u64::from_be_bytes(*forged[8..].first_chunk().expect("a header")) as usize;
        let checksum = crc32fast::hash(&forged[items..end - 4]) ^ number;
        forged[end - 4..].copy_from_slice(&checksum.to_le_bytes());
        log.append(&[entry(2, 1, &forged)], None, false).expect("in order");
        let outer = records(&place).pop().expect("the entry");
        let killed = place.copy();
        change(&killed.log_files()[0], |bytes| bytes[outer.start..outer.start + 20].fill(0));
        match killed.open_with(ONE_FILE) {
            Ok((_directory, mut log)) => {
                assert!(!is_refused);
                assert_eq!(log.load().expect("it is sound").entries, []);
            }
            Err(StorageError::BrokenLog { .. }) => assert!(is_refused),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_a_command_makes_an_open_verify_is_no_evidence() {
    // Headers in a command, of records that would reach to the end of the one that holds it, and
    // so borrow its state: more of them than could stand there.
    let place = Place::new();
    let (_directory, mut log) = place.open_with(ONE_FILE).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    log.append(&[entry(2, 1, &[0xEE; 1 << 16])], None, false).expect("in order");
    let outer = records(&place).pop().expect("the entry");
    let killed = place.copy();
    change(&killed.log_files()[0], |bytes| {
        let within = bytes[outer.clone()].windows(64).position(|part| part == [0xEE; 64]);
        let first = outer.start + within.expect("the command");
        for start in (first..first + (1 << 15)).step_by(1 << 10) {
            let length = (outer.end - start) as u64;
            bytes[start..start + 8].copy_from_slice(&(length << 8).to_be_bytes());
            bytes[start + 8..start + 16].copy_from_slice(&16_u64.to_be_bytes());
        }
        bytes[outer.start..outer.start + 16].fill(0);
    });
    let (_directory, mut log) = killed.open_with(ONE_FILE).expect("it is a torn end");
    assert_eq!(log.load().expect("it is sound").entries, []);
}

#[test]
fn a_command_that_borrows_the_state_of_its_own_record_is_no_evidence() {
    // The header of a record that begins within the command and has the items of the one that
    // holds it: what that says would be of what stands before the header.
    let place = Place::new();
    let (_directory, mut log) = place.open_with(ONE_FILE).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    let mut record = |command: &[u8], sync| {
        log.append(&[entry(2, 1, command)], None, sync).expect("in order");
        let record = records(&place).pop().expect("the entry");
        let file = fs::read(&place.log_files()[0]).expect("it is there");
        let within = file[record.clone()].windows(64).position(|part| part == [0xEE; 64]);
        (record, file, within.expect("the command"))
    };
    let mut command = vec![0xEE; 1000];
    let (outer, file, within) = record(&command, true);
    let length = (outer.len() - within) as u64;
    let items = u64::from_be_bytes(*file[outer.start + 8..].first_chunk().expect("a header"));
    command[..8].copy_from_slice(&(length << 8).to_be_bytes());
    command[8..16].copy_from_slice(&(items - within as u64).to_be_bytes());
    let (outer, ..) = record(&command, false);
    let killed = place.copy();
    change(&killed.log_files()[0], |bytes| bytes[outer.start..outer.start + 20].fill(0));
    let (_directory, mut log) = killed.open_with(ONE_FILE).expect("it is a torn end");
    assert_eq!(log.load().expect("it is sound").entries.len(), 1);
}

#[test]
fn the_first_record_after_an_open_says_that_what_it_found_was_durable() {
    let place = Place::new();
    written(&place, 2, 0);
    let last = records(&place).pop().expect("several");
    let (directory, mut log) = place.open_with(ONE_FILE).expect("it is sound");
    log.append(&[], Some(hard_state(2, 2, 1)), true).expect("in order");
    drop((directory, log));
    change(&place.log_files()[0], |bytes| bytes[last.start + 3] ^= 1);
    let error = place.open_with(ONE_FILE).expect_err("it was synced");
    assert!(error.to_string().contains(&format!("byte {},", last.start)), "{error}");
}

#[test]
fn a_record_that_says_nothing_of_others_is_left_to_who_reads_its_entries() {
    // As an earlier version wrote them, or for another directory.
    let place = Place::new();
    written(&place, 4, 0);
    let records = records(&place);
    let path = place.log_files().pop().expect("there is one");
    change(&path, |bytes| bytes[records[3].start + 40] ^= 1);
    let stamp = DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is free").stamp();
    let mut file = LogFile::open(&path, 1).expect("it can be read");
    let judged = |stamp| judge(&mut file, stamp).expect("it can be read");
    assert_eq!([stamp, stamp ^ 1].map(judged), [Verdict::Whole, Verdict::Whole]);
    // Nothing is proved of the last one, but by the stamp that it is ours.
    change(&path, |bytes| {
        bytes[records[3].start + 40] ^= 1;
        bytes[records[5].start + 40] ^= 1;
    });
    let mut file = LogFile::open(&path, 1).expect("it can be read");
    let judged = |stamp| judge(&mut file, stamp).expect("it can be read");
    let torn = Verdict::Torn(records[5].start as u64);
    assert_eq!([stamp, stamp ^ 1].map(judged), [torn, Verdict::Whole]);
}

#[test]
fn what_a_recycled_file_held_before_is_no_evidence() {
    let place = Place::new();
    let options = LogOptions { purge_bytes: 2048, ..SMALL };
    let (_directory, mut log) = place.open_with(options).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    let mut stale = 0;
    for index in 2..=150_u64 {
        log.append(&[entry(index, 1, &[5; 60])], None, true).expect("in order");
        if index % 15 == 0 {
            let snapshot = hollow_snapshot(&place, Applied { index, term: 1 });
            log.compact_to(index - 2, &snapshot).expect("it is legal");
            log.housekeeper().run().expect("the disk is sound");
        }
        log.append(&[], None, false).expect("in order");
        let killed = place.copy();
        let records = records(&killed);
        let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
        let path = killed.log_files().pop().expect("there is one");
        let bytes = fs::read(&path).expect("it is there");
        stale += u64::from(bytes[last.end..].iter().any(|byte| *byte != 0));
        // The last write, which was not synced, torn; and the first, if that one was.
        change(&path, |bytes| bytes[last.start + 3] ^= 1);
        drop(killed.open_with(options).expect("it is a torn end"));
        if records.len() > 2 {
            fs::write(&path, &bytes).expect("it can be written");
            change(&path, |bytes| bytes[first.start + 3] ^= 1);
            killed.open_with(options).expect_err("it was synced");
        }
    }
    assert!(stale > 10, "{stale} files were recycled");
}

#[test]
fn a_header_of_a_file_that_was_changed_is_refused() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    for index in 2..=20 {
        log.append(&[entry(index, 1, &[5; 200])], None, true).expect("in order");
    }
    drop((directory, log));
    let names = place.log_files();
    assert!(names.len() > 3);
    for file in 0..names.len() - 1 {
        // Among them the alignment, which raft-engine takes for a length of what it reads.
        for at in (0..69).step_by(3).chain(53..69) {
            let copy = place.copy();
            change(&copy.log_files()[file], |bytes| bytes[at] ^= 4);
            let error = copy.open().expect_err("it was synced");
            assert!(error.to_string().contains("is damaged at byte 0,"), "{error}");
        }
    }
}

#[test]
fn a_state_that_says_nothing_of_other_records_can_be_read() {
    let state = State { hard_state: hard_state(3, 2, 9), last_index: 12, ..State::default() };
    let evidence = Evidence { stamp: 7, unsynced: 80, entries_bytes: 0 };
    let written = state.encode(evidence);
    assert_eq!(State::decode(&written), Ok(state));
    for (version, fewer) in [(1, 24), (2, 8)] {
        let mut earlier = written[..written.len() - fewer].to_vec();
        assert!(State::decode(&earlier).is_err());
        earlier[0] = version;
        assert_eq!(State::decode(&earlier), Ok(state));
    }
    assert!(State::decode(&[]).is_err());
}
