//! Where the encoder writes: memory up to a part's size, beyond that a channel to the upload.
//!
//! Blocks have a fixed size, so that a growing object never moves in memory.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

const BLOCK_BYTES: usize = 4 << 20;

/// A write side that keeps what fits into one part and sends full parts away.
#[derive(Debug)]
pub(crate) struct Sink {
    block: Vec<u8>,
    blocks: Vec<Bytes>,
    held: u64,
    part_bytes: u64,
    written: u64,
    /// Position of the first byte that is still held.
    held_from: u64,
    parts: mpsc::Sender<Option<Vec<Bytes>>>,
}

impl Sink {
    pub(crate) fn new(part_bytes: u64, parts: mpsc::Sender<Option<Vec<Bytes>>>) -> Self {
        Sink { block: Vec::new(), blocks: Vec::new(), held: 0, part_bytes, written: 0, held_from: 0, parts }
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The last part, or the whole object when no part was sent.
    pub(crate) fn finish(mut self) -> io::Result<Finished> {
        self.seal_block();
        let size = self.written;
        if self.held_from == 0 {
            return Ok(Finished::Whole { blocks: self.blocks, size });
        }
        if self.held > 0 {
            self.send_part()?;
        }
        self.parts.blocking_send(None).map_err(io::Error::other)?;
        Ok(Finished::Sent { size })
    }

    fn seal_block(&mut self) {
        if !self.block.is_empty() {
            self.blocks.push(Bytes::from(std::mem::take(&mut self.block)));
        }
    }

    fn send_part(&mut self) -> io::Result<()> {
        self.seal_block();
        let part = std::mem::take(&mut self.blocks);
        self.held_from += self.held;
        self.held = 0;
        self.parts.blocking_send(Some(part)).map_err(io::Error::other)
    }
}

/// How the object left the encoder.
#[derive(Debug)]
pub(crate) enum Finished {
    /// All of it is here.
    Whole {
        /// Its bytes, in order.
        blocks: Vec<Bytes>,
        /// Its length.
        size: u64,
    },
    /// All of it went to the upload.
    Sent {
        /// Its length.
        size: u64,
    },
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held >= self.part_bytes {
            self.send_part()?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK_BYTES);
        }
        let room = self.block.capacity() - self.block.len();
        let until_full = usize::try_from(self.part_bytes - self.held).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room).min(until_full);
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == self.block.capacity() {
            self.seal_block();
        }
        self.held += taken as u64;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
