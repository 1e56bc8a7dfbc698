//! Three processes and what happens to real ones: networks that part, slow down and break, pauses,
//! full disks, members that are replaced, and all of it at once. Whatever happens, no acknowledged
//! write is lost, none is applied twice, every read is linearizable, and work goes on.

mod disk;
mod members;
mod mix;
mod namespace;
mod partitions;
mod pause;
mod trial;
