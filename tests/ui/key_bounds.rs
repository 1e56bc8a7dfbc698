//! What the fields and the type of a derived key must be.

use fsmdb::Key;

#[derive(Debug, Key)]
struct Measured {
    load: f64,
}

#[derive(Key)]
enum Silent {
    One,
}

fn main() {}
