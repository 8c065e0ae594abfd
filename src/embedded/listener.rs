//! Accepts connections, and closes them all on command.
//!
//! One task owns the listening socket and the tasks of all connections. The owner of the broker sends it commands and waits
//! until they are done, so that a test continues only after the connections are really closed. When the task ends, every
//! connection ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::SharedBroker;
use super::connection::serve;

/// Pause after a failed accept, most likely because file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The commands to the task.
#[derive(Debug)]
pub(super) enum ListenerCommand {
    /// Close all connections; new ones are accepted.
    DropConnections,
    /// Leave new connections in the system's queue: the client sees them open, but gets no answer.
    Pause,
    /// Accept again, beginning with the connections that waited.
    Resume,
    /// Close the socket and all connections: new ones are refused.
    Close,
    /// Accept on this socket.
    Listen(TcpListener),
}

/// A command, and where to report that it is done.
pub(super) type ListenerOrder = (ListenerCommand, oneshot::Sender<()>);

/// Runs until the sender of commands is dropped.
pub(super) async fn run(
    listener: TcpListener,
    broker: Arc<SharedBroker>,
    mut orders: mpsc::Receiver<ListenerOrder>,
) {
    let mut listener = Some(listener);
    let mut paused = false;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((command, done)) = order else { return };
                match command {
                    ListenerCommand::DropConnections => connections.shutdown().await,
                    ListenerCommand::Pause => paused = true,
                    ListenerCommand::Resume => paused = false,
                    ListenerCommand::Close => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    ListenerCommand::Listen(again) => listener = Some(again),
                }
                // The caller may have been cancelled.
                let _ = done.send(());
            }
            stream = accept(listener.as_ref()), if !paused => {
                // Above the limit a connection is closed as soon as it opens.
                if connections.len() < broker.options.max_connections {
                    connections.spawn(serve(stream, Arc::clone(&broker)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next connection; never, while there is no socket.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
