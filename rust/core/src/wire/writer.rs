//! Values to frames.

use super::{ResultOut, StepOut, CANCEL, FETCH, GRAPH, HELLO, MAX_FRAME_BYTES, RESULTS, STATE, STEPS, STOP};
use crate::error::{Error, Result};

/// A batch is closed past this size, so that the reader can start on it while the next is written.
const BATCH_BYTES: usize = 256 << 10;

/// Collects frames; steps and results that follow each other share one.
#[derive(Debug, Default)]
pub struct FrameWriter {
    out: Vec<u8>,
    batch: Option<Batch>,
}

/// The frame of many items that is still open.
#[derive(Debug, Clone, Copy)]
struct Batch {
    kind: u8,
    start: usize,
    items: u32,
}

impl FrameWriter {
    /// A writer without frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when nothing was written since `new` or `finish`.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Adds a step. One that no frame can hold is refused, and nothing is written.
    pub fn step(&mut self, step: &StepOut<'_>) -> Result<()> {
        let texts = [
            step.flow_key,
            step.node,
            step.task,
            step.baggage,
            step.state,
            step.changes,
            step.calls,
            step.left_out,
        ];
        self.open(STEPS, 44 + size_of_texts(&texts))?;
        self.out.extend_from_slice(&step.dispatch.to_le_bytes());
        self.u32(step.graph_no);
        self.u32(step.attempt);
        self.out.extend_from_slice(&step.step.to_le_bytes());
        self.out.extend_from_slice(&step.created_at_ms.to_le_bytes());
        self.out.extend_from_slice(&step.step_created_at_ms.to_le_bytes());
        self.out.extend_from_slice(&step.budget_ms.to_le_bytes());
        for text in texts {
            self.text(text);
        }
        Ok(())
    }

    /// Adds a result. One that no frame can hold is refused, and nothing is written.
    pub fn result(&mut self, result: &ResultOut<'_>) -> Result<()> {
        let texts = [result.changes, result.meta];
        self.open(RESULTS, 13 + size_of_texts(&texts))?;
        self.out.extend_from_slice(&result.dispatch.to_le_bytes());
        self.out.push(result.outcome as u8);
        self.u32(result.ran_us);
        for text in texts {
            self.text(text);
        }
        Ok(())
    }

    /// Names a graph's reducers, before its first step goes to that worker.
    pub fn graph(&mut self, graph_no: u32, reducers: &str) {
        self.single(GRAPH, 8 + reducers.len());
        self.u32(graph_no);
        self.text(reducers);
    }

    /// Takes a step back.
    pub fn cancel(&mut self, dispatch: u64) {
        self.single(CANCEL, 8);
        self.out.extend_from_slice(&dispatch.to_le_bytes());
    }

    /// Asks the worker to finish and exit.
    pub fn stop(&mut self) {
        self.single(STOP, 0);
    }

    /// Adds fields of a step's state; empty when its dispatch is not current. One that no frame can hold is refused,
    /// and nothing is written.
    pub fn state(&mut self, dispatch: u64, state: &str) -> Result<()> {
        check_size(12 + state.len())?;
        self.single(STATE, 12 + state.len());
        self.out.extend_from_slice(&dispatch.to_le_bytes());
        self.text(state);
        Ok(())
    }

    /// Asks for fields of a step's state: a JSON list of names, or empty for all.
    pub fn fetch(&mut self, dispatch: u64, names: &str) {
        self.single(FETCH, 12 + names.len());
        self.out.extend_from_slice(&dispatch.to_le_bytes());
        self.text(names);
    }

    /// The worker's first frame.
    pub fn hello(&mut self, about: &str) {
        self.single(HELLO, 4 + about.len());
        self.text(about);
    }

    /// The frames, closed; the writer is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        self.close();
        std::mem::take(&mut self.out)
    }

    /// Makes room for an item of `size` in a batch of `kind`, in the open one where that goes.
    fn open(&mut self, kind: u8, size: usize) -> Result<()> {
        check_size(size)?;
        if self.batch.is_none_or(|batch| batch.kind != kind || self.out.len() - batch.start > BATCH_BYTES) {
            self.close();
            self.batch = Some(Batch { kind, start: self.out.len(), items: 0 });
            self.out.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0, 0]);
        }
        self.make_room(kind, size);
        Ok(())
    }

    /// Starts another batch when the open one would pass the frame's bound with this item.
    fn make_room(&mut self, kind: u8, size: usize) {
        let Some(batch) = self.batch.as_mut() else { return };
        if batch.items > 0 && self.out.len() - batch.start + size > MAX_FRAME_BYTES {
            self.close();
            self.batch = Some(Batch { kind, start: self.out.len(), items: 1 });
            self.out.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0, 0]);
        } else {
            batch.items += 1;
        }
    }

    fn close(&mut self) {
        if let Some(Batch { start, items, .. }) = self.batch.take() {
            let length = (self.out.len() - start - 4) as u32;
            self.out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            self.out[start + 5..start + 9].copy_from_slice(&items.to_le_bytes());
        }
    }

    fn single(&mut self, kind: u8, payload: usize) {
        self.close();
        self.u32(payload as u32 + 1);
        self.out.push(kind);
    }

    fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn check_size(size: usize) -> Result<()> {
    if size <= MAX_FRAME_BYTES - 5 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "one item of {size} bytes is over the {MAX_FRAME_BYTES} bytes of a frame; keep large data elsewhere and its \
         address in the state"
    )))
}

fn size_of_texts(texts: &[&str]) -> usize {
    texts.iter().map(|text| 4 + text.len()).sum()
}
