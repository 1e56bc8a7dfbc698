//! Backs the database up while it works: a whole snapshot file first, then incremental ones, each
//! of what has changed since the one before; and shows in the end that the chain restores.

use anyhow::{Result, ensure};
use fsmdb::{Builder, SaveOptions, Snapshot, SnapshotError};

/// The files of a chain, and the version of the last one.
pub struct Backup {
    last: Snapshot,
    files: Vec<Vec<u8>>,
}

impl Backup {
    /// Begins with a whole file.
    pub fn begin(first: Snapshot) -> Result<Self> {
        let mut file = Vec::new();
        first.save(&mut file)?;
        Ok(Self { last: first, files: vec![file] })
    }

    /// Adds a file of what has changed. A version of another replica than the last one, or of one
    /// that was given a snapshot since, begins the chain anew.
    pub fn add(&mut self, newer: Snapshot) -> Result<()> {
        if newer.revision() <= self.last.revision() {
            return Ok(());
        }
        let mut file = Vec::new();
        match newer.save_since(&self.last, &mut file, SaveOptions::new()) {
            Ok(_) => self.files.push(file),
            Err(SnapshotError::NoBase { .. }) => {
                newer.save(&mut file)?;
                self.files = vec![file];
            }
            Err(error) => return Err(error.into()),
        }
        self.last = newer;
        Ok(())
    }

    /// Restores the chain into a database of its own, which must be what the last version was, and
    /// says what it took.
    pub fn check(&self, builder: Builder) -> Result<String> {
        let restored = builder.load_chain(self.files.iter().map(Vec::as_slice))?;
        restored.check()?;
        let digests = (restored.digests()?, self.last.digests()?);
        ensure!(digests.0 == digests.1, "the restored state differs in {:?}", {
            digests.0.first_difference(&digests.1)
        });
        let (mut of_chain, mut of_last) = (Vec::new(), Vec::new());
        restored.read().save(&mut of_chain)?;
        self.last.save(&mut of_last)?;
        ensure!(of_chain == of_last, "the chain restores to other bytes");
        let (whole, links) = self.files.split_first().expect("a chain has its first file");
        let bytes: usize = links.iter().map(Vec::len).sum();
        Ok(format!(
            "1 whole file of {} bytes and {} incremental ones of {bytes}, restored to revision {}",
            whole.len(),
            links.len(),
            restored.revision()
        ))
    }
}
