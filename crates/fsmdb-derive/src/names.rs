//! The names of tables, indexes and handles.

/// The longest name of a table or index in bytes: `fsmdb::limits::NAME_BYTES_MAX`.
///
/// `build()` enforces it; checking here shows the mistake at the attribute.
const NAME_BYTES_MAX: usize = 128;

/// Says why `name` cannot name a table.
pub(crate) fn check_table_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name of a table cannot be empty".into());
    }
    check_length("table", name)
}

/// Says why `name` cannot name an index.
pub(crate) fn check_index_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte == b'_' || byte.is_ascii_lowercase());
    let goes_on =
        bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bare = name.bytes().all(|byte| byte == b'_');
    if !begins || !goes_on || bare {
        return Err(format!(
            "`{name}` cannot name an index: a name is snake case, as in `name = \"owner_2\"`"
        ));
    }
    check_length("index", name)
}

fn check_length(what: &str, name: &str) -> Result<(), String> {
    match name.len() {
        0..=NAME_BYTES_MAX => Ok(()),
        len => Err(format!(
            "the name of this {what} has {len} bytes; the longest allowed has {NAME_BYTES_MAX}"
        )),
    }
}

/// The constant that is the handle of the index called `name`.
pub(crate) fn handle_of(name: &str) -> String {
    format!("BY_{}", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snake_case_names_an_index() {
        for name in ["a", "name", "ns_status", "_id", "v2", "a__b", &"x".repeat(128)] {
            assert_eq!(check_index_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn anything_else_does_not() {
        for name in ["", "_", "2nd", "Name", "ns-status", "größe", "a b", &"x".repeat(129)] {
            assert!(check_index_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_handle_is_the_name_in_upper_case() {
        assert_eq!(handle_of("ns_status2"), "BY_NS_STATUS2");
    }
}
