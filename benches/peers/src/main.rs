//! fsmdb beside its peers: runs, tables and plots. See README.md.

mod allocator;
mod engine;
mod ops;
mod plan;
mod row;
mod sampler;
mod worker;

fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    worker::run(&a[1], a[2].parse()?, &a[4..], a[3] == "q")
}
