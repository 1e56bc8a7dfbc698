//! What a user implements: commands, replies, and how a command changes the tables.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::revision::Applied;
use crate::txn::{Intent, IntentError, WriteTxn};

/// A deterministic state machine over the tables of a database.
///
/// ```
/// use fsmdb::{Applied, Db, Error, Fsm, Machine, Table, WriteTxn};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// #[table(name = "nodes")]
/// struct Node {
///     #[key]
///     id: u64,
///     #[index(unique)]
///     name: String,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// enum Command {
///     Register { id: u64, name: String },
///     Forget { id: u64 },
/// }
///
/// struct Registry;
///
/// impl Fsm for Registry {
///     type Command = Command;
///     type Reply = Result<(), Error>;
///
///     fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: Command) -> Self::Reply {
///         match command {
///             Command::Register { id, name } => txn.insert(Node { id, name }).map(drop),
///             Command::Forget { id } => Ok(drop(txn.table_mut::<Node>().delete(&id))),
///         }
///     }
/// }
///
/// let machine = Machine::new(Db::builder().table::<Node>().build()?, Registry)?;
/// let entry = Machine::<Registry>::encode(&Command::Register { id: 1, name: "alpha".into() })?;
/// let reply = machine.apply(Applied { index: 1, term: 1 }, &entry)?;
/// assert_eq!(reply, Some(Ok(())));
/// assert_eq!(machine.read().table::<Node>().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Determinism
///
/// `apply` must depend on nothing but the transaction, the position and the command: no clock, no
/// randomness, no environment, no iteration over hash-ordered containers. What must be chosen
/// outside (a time, an id) is chosen by the proposer and travels in the command.
/// [`testing::check`](crate::testing::check) finds violations.
pub trait Fsm: Send + Sync + 'static {
    /// What a log entry carries. It is encoded as MessagePack with named fields; a new variant or
    /// an optional field may be added, none may change its meaning while logs that have it exist.
    type Command: Serialize + DeserializeOwned + Send + 'static;

    /// What the proposer is told.
    type Reply: Outcome + Send + 'static;

    /// Applies one command in one transaction.
    ///
    /// When the reply is a [refusal](Outcome::is_refused), everything it wrote is rolled back.
    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Self::Command) -> Self::Reply;
}

/// A state machine of which a command can carry an [`Intent`]: so that a closure runs at any
/// replica and its transaction through the log.
pub trait CarriesIntents: Fsm {
    /// The command that carries `intent`; to apply it is [`Intent::apply`].
    fn carry(intent: Intent) -> Self::Command;

    /// What the reply to such a command says of it.
    ///
    /// # Errors
    ///
    /// That of [`Intent::apply`].
    fn carried(reply: Self::Reply) -> Result<(), IntentError>;
}

/// A reply that may be a refusal, after which the transaction is rolled back.
pub trait Outcome {
    /// Whether the command was refused.
    fn is_refused(&self) -> bool;
}

/// `Err` is a refusal.
impl<T, E> Outcome for Result<T, E> {
    fn is_refused(&self) -> bool {
        self.is_err()
    }
}

/// A command without a reply is never refused.
impl Outcome for () {
    fn is_refused(&self) -> bool {
        false
    }
}
