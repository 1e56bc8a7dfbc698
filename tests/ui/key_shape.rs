//! A derived key is an enum without fields or a struct of keys, without generics.

use fsmdb::Key;

#[derive(Debug, Key)]
enum Shape {
    Point,
    Circle(u32),
    Square { side: u32 },
}

#[derive(Debug, Key)]
enum Never {}

#[derive(Debug, Key)]
struct Unit;

#[derive(Debug, Key)]
struct Generic<T>(T);

#[derive(Key)]
union Bits {
    whole: u32,
}

#[derive(Debug, Key)]
#[key(crates = "fsmdb")]
struct Unknown(u8);

#[derive(Debug, Key)]
#[key(crate = "not a path")]
struct Unparsable(u8);

fn main() {}
