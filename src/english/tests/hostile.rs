//! Text that nobody wrote: it is refused with its line, or it says what it says in the one way.

use super::*;

/// What happens to a text on its way.
#[derive(Clone, Debug)]
enum Harm {
    Insert(usize, char),
    Remove(usize),
    Replace(usize, char),
    DropLine(usize),
    RepeatLine(usize),
    SwapLines(usize, usize),
    CutAt(usize),
}

fn any_harm() -> impl Strategy<Value = Harm> {
    let at = any::<usize>;
    let c = || {
        let known = "01259-+.e \n\r\t\"\\:,ausnf{}\u{202e}é".chars().collect::<Vec<_>>();
        prop_oneof![3 => prop::sample::select(known), 1 => any::<char>()]
    };
    prop_oneof![
        (at(), c()).prop_map(|(at, c)| Harm::Insert(at, c)),
        at().prop_map(Harm::Remove),
        (at(), c()).prop_map(|(at, c)| Harm::Replace(at, c)),
        at().prop_map(Harm::DropLine),
        at().prop_map(Harm::RepeatLine),
        (at(), at()).prop_map(|(one, other)| Harm::SwapLines(one, other)),
        at().prop_map(Harm::CutAt),
    ]
}

fn harmed(text: &str, harm: &Harm) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (count, line_count) = (chars.len(), lines.len());
    match *harm {
        Harm::Insert(at, c) => chars.insert(at % (count + 1), c),
        Harm::Remove(at) => drop(chars.remove(at % count)),
        Harm::Replace(at, c) => chars[at % count] = c,
        Harm::CutAt(at) => chars.truncate(at % count),
        Harm::DropLine(at) => {
            lines.remove(at % line_count);
            return lines.concat();
        }
        Harm::RepeatLine(at) => {
            lines.insert(at % line_count, lines[at % line_count]);
            return lines.concat();
        }
        Harm::SwapLines(one, other) => {
            lines.swap(one % line_count, other % line_count);
            return lines.concat();
        }
    }
    chars.into_iter().collect()
}

/// Reads `text`, which must be refused in one of its lines or be what is written of what was read.
fn assert_refused_or_exact(text: &str) -> Result<(), TestCaseError> {
    match read(text.as_bytes()) {
        Ok(export) => {
            let again = write(&export).unwrap();
            prop_assert_eq!(text.replace("\r\n", "\n"), again);
        }
        Err(EnglishError::Format { .. }) => {}
        Err(error) => {
            let line = line_of(&error).unwrap();
            let lines = text.split('\n').count() as u64;
            prop_assert!((1..=lines).contains(&line), "{} of {} lines", error, lines);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn harmed_exports_are_refused_or_say_what_they_say(
        export in any_export(),
        harms in prop::collection::vec(any_harm(), 1..3),
    ) {
        let mut text = write(&export).unwrap();
        for harm in &harms {
            if !text.is_empty() {
                text = harmed(&text, harm);
            }
        }
        assert_refused_or_exact(&text)?;
    }

    #[test]
    fn an_export_that_was_cut_off_is_never_read(export in any_export(), at in any::<usize>()) {
        let text = write(&export).unwrap();
        prop_assert!(read(&text.as_bytes()[..at % text.len()]).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_words_of_the_format_are_refused_or_say_what_they_say(
        pieces in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..20),
    ) {
        let head = "This is an export of a database at revision 1, in plain English, format 1.\n\n\
                    Table \"t\", version 1.\n\n";
        assert_refused_or_exact(&format!("{head}{}", pieces.concat()))?;
    }
}

const WORDS: &[&str] = &[
    "Record, created at revision 1, last changed at revision 1",
    "Record",
    " \"",
    " of tenant \"a\"",
    ", created at revision 1, last changed at revision 2",
    ", stored under 00",
    ", with 1 field:\n",
    ", with 4294967295 fields:\n",
    ":\n",
    "  it is ",
    "  its name is ",
    "  its names are ",
    "  entry 5 is ",
    "  entry:\n    key is ",
    "    value is ",
    "  ",
    "item 1 is ",
    "a list of 4294967295 items:\n",
    "a list of 1 item:\n",
    "a group of 4294967295 fields:\n",
    "\"x\", continued:\n",
    "\"x\"",
    "bytes 00, continued:\n",
    "nothing",
    "extension -5 of bytes ",
    "not a number ",
    "\n",
    "\n\n",
    "End of table \"t\": 0 records.\n",
    "End of table \"t\": 1 record.\n",
    "\nEnd of the export: 1 table.\n",
];
