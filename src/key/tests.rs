//! Tests of the key room: the laws for every type, then the awkward cases by name.

mod cases;
mod forms;
mod laws;
mod prefixes;
mod ranges;
mod strategies;
