//! Starts the program as another user, answers its changes of identity, and ends its process tree.

mod answer;
pub(crate) mod channel;
pub mod environment;
mod error;
mod filesystem;
pub mod guardian;
pub mod identity;
pub mod identity_filter;
mod keeper;
pub(crate) mod machine;
pub mod privileges;
pub mod signals;
pub mod spawn;
pub mod stop;
pub mod supervisor;
pub mod tree;

pub use error::{Error, Step};
pub use identity_filter::IdentityPolicy;
pub use spawn::{Confined, Credentials, Fence};
pub use supervisor::IdentityCall;
