//! The files of a command: opened with their key, put in place whole, and how far it is.

use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::Path;

use fsmdb::offline::{OfflineError, Source, replace};
use fsmdb::{EncryptionKey, SaveOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{Arguments, Command, Written};
use crate::fault::Fault;

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;

/// Opens and writes files.
#[derive(Debug)]
pub(crate) struct Files {
    key: Option<EncryptionKey>,
    /// How many bytes were read, of all files that were opened so far.
    bar: ProgressBar,
}

impl Files {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Fault> {
        let key = arguments.key_file.as_deref().map(key_of).transpose()?;
        // Rows that are printed on the same terminal would run through it.
        let prints = match &arguments.command {
            Command::List(_) | Command::Diff(_) => true,
            Command::Export(export) => export.target.is_none(),
            _ => false,
        };
        let is_seen = io::stderr().is_terminal() && !(prints && io::stdout().is_terminal());
        let bar = if is_seen { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is sound");
        Ok(Self { key, bar: bar.with_style(style) })
    }

    pub(crate) fn key(&self) -> Option<&EncryptionKey> {
        self.key.as_ref()
    }

    /// The snapshot file at a path.
    pub(crate) fn source<'a>(&'a self, path: &'a Path) -> Source<'a> {
        let source = self.text(path);
        match &self.key {
            Some(key) => source.decrypt(key),
            None => source,
        }
    }

    /// The text at a path.
    pub(crate) fn text<'a>(&'a self, path: &'a Path) -> Source<'a> {
        Source::from_fn(move || self.open(path))
    }

    /// Opens a file whose bytes are counted as they are read.
    pub(crate) fn open(&self, path: &Path) -> io::Result<impl io::Read + use<>> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        self.bar.inc_length(file.metadata().map_err(named)?.len());
        Ok(BufReader::with_capacity(READ_BYTES, self.bar.wrap_read(file)))
    }

    /// How a snapshot file is written.
    pub(crate) fn options(&self, written: &Written) -> SaveOptions<'static> {
        let mut options = SaveOptions::new();
        if let Some(level) = written.compress {
            options = options.compress(level);
        }
        match &self.key {
            Some(key) if !written.plain => options.encrypt(key),
            _ => options,
        }
    }

    /// Writes a file that then takes its place.
    pub(crate) fn replace<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<T, OfflineError>,
    ) -> Result<T, Fault> {
        let written = replace(path, write);
        self.bar.finish_and_clear();
        Ok(written?)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Reads a key: 32 bytes, or their digits.
fn key_of(path: &Path) -> Result<EncryptionKey, Fault> {
    let failed = |error| Fault::Other(format!("cannot read key {}: {error}", path.display()));
    let content = fs::read(path).map_err(failed)?;
    let digits = std::str::from_utf8(&content).ok().map(str::trim);
    let bytes = <[u8; 32]>::try_from(content.as_slice()).ok();
    let key = bytes.or_else(|| digits.and_then(bytes_of));
    let message = || format!("{} is no key of 32 bytes, nor their digits", path.display());
    key.map(EncryptionKey::new).ok_or_else(|| Fault::Usage(message()))
}

fn bytes_of(digits: &str) -> Option<[u8; 32]> {
    let is_key = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let mut key = [0; 32];
    for (position, byte) in key.iter_mut().enumerate().filter(|_| is_key) {
        *byte = u8::from_str_radix(&digits[2 * position..2 * position + 2], 16).ok()?;
    }
    is_key.then_some(key)
}
