//! The process that measures one engine under one allocator, and prints a sample a line.

use anyhow::bail;

use crate::engine::{BTree, Concread, Fsmdb, Im, Imbl, Locked, Published, Skiplist, Vart};
use crate::ops;
use crate::sampler::{Sampler, Scale};

/// Runs the operations `ops` on the engine called `name`.
pub(crate) fn run(name: &str, n: usize, ops: &[String], quick: bool) -> anyhow::Result<()> {
    let scale = Scale::new(quick);
    let mut sampler = Sampler::new(name, n, ops);
    match name {
        "fsmdb" => ops::run::<Fsmdb>(&mut sampler, n, scale),
        "imbl" => ops::run::<Published<Imbl>>(&mut sampler, n, scale),
        "im" => ops::run::<Published<Im>>(&mut sampler, n, scale),
        "vart" => ops::run::<Published<Vart>>(&mut sampler, n, scale),
        "concread" => ops::run::<Concread>(&mut sampler, n, scale),
        "skiplist" => ops::run::<Skiplist>(&mut sampler, n, scale),
        "btreemap" => ops::run::<Locked<BTree>>(&mut sampler, n, scale),
        "bare-rows" => ops::run_bare(&mut sampler, n, scale),
        "arc-swap" => ops::run_arc_swap(&mut sampler, scale),
        _ => bail!("there is no engine called {name}"),
    }
    for sample in sampler.into_samples() {
        println!("{}", serde_json::to_string(&sample)?);
    }
    Ok(())
}
