//! The engine against `BTreeMap`: random transactions, versions held, forks, and after each step
//! the proof that memory holds what versions need and nothing else.

mod audit;
mod branches;
mod density;
mod diff;
mod edges;
mod histories;
mod newest;
mod world;
