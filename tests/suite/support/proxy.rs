//! A proxy for TCP on this machine that does what networks do: cuts connections after some bytes,
//! lets them stand still, refuses new ones for a while.
//!
//! Keeps true: what it passes on is unchanged; it ends with its value.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Outcome;

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Each connection is cut after so many bytes to the server.
    pub cut_after: Option<u64>,
    /// Every piece of bytes waits so long.
    pub delay: Duration,
    /// So many connections are closed at once before one is served.
    pub refuse: u64,
    /// No more than so many connections are cut.
    pub cuts_max: u64,
}

/// A proxy that listens.
pub struct Proxy {
    port: u16,
    ended: Arc<AtomicBool>,
    cut: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens, and passes on to `port` of this machine.
    pub fn start(port: u16, faults: Faults) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            ended: Arc::default(),
            cut: Arc::default(),
        };
        let (ended, cut) = (Arc::clone(&proxy.ended), Arc::clone(&proxy.cut));
        std::thread::spawn(move || {
            let mut number = 0;
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                number += 1;
                if number <= faults.refuse {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    serve(client, server, faults, &cut);
                }
            }
        });
        Ok(proxy)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were cut.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // So that the listener looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(client: TcpStream, server: TcpStream, faults: Faults, cut: &Arc<AtomicU64>) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let cut = Arc::clone(cut);
    std::thread::spawn(move || pass(client, server, faults, Some(&cut)));
    let back = Faults {
        cut_after: None,
        ..faults
    };
    std::thread::spawn(move || pass(server_too, client_too, back, None));
}

fn pass(mut from: TcpStream, mut to: TcpStream, faults: Faults, cut: Option<&AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        std::thread::sleep(faults.delay);
        passed += count as u64;
        if let (Some(limit), Some(cut)) = (faults.cut_after, cut)
            && passed > limit
            && cut.load(Ordering::SeqCst) < faults.cuts_max
        {
            cut.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
