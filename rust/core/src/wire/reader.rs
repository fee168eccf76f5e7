//! Frames to values, from whatever pieces the socket gives.

use super::{
    Message, Outcome, ResultIn, StepIn, CANCEL, FETCH, GRAPH, HELLO, MAX_FRAME_BYTES, RESULTS, STATE, STEPS,
    STOP,
};
use crate::error::{Error, Result};

/// Keeps the beginning of a frame until its end comes. Broken for good after its first error.
#[derive(Debug, Default)]
pub struct FrameReader {
    rest: Vec<u8>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frames that `bytes` completes, in order.
    ///
    /// # Errors
    /// `corrupt` for bytes that no [`super::FrameWriter`] has written: the stream is to be given up.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut input = bytes;
        if !self.rest.is_empty() {
            input = self.complete_rest(input, &mut messages)?;
        }
        while let Some(length) = frame_length(input)? {
            let Some(frame) = input.get(4..4 + length) else { break };
            messages.push(read_frame(frame)?);
            input = &input[4 + length..];
        }
        self.rest.extend_from_slice(input);
        Ok(messages)
    }

    /// Adds to the kept beginning what its frame lacks, no more, and returns what remains.
    fn complete_rest<'a>(&mut self, mut input: &'a [u8], messages: &mut Vec<Message>) -> Result<&'a [u8]> {
        self.take(&mut input, 4);
        if let Some(length) = frame_length(&self.rest)? {
            self.rest.reserve_exact(4 + length - self.rest.len());
            self.take(&mut input, 4 + length);
            if self.rest.len() == 4 + length {
                messages.push(read_frame(&self.rest[4..])?);
                self.rest = Vec::new();
            }
        }
        Ok(input)
    }

    /// Moves bytes from `input` until the kept ones are `wanted`.
    fn take(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.rest.len()).min(input.len());
        self.rest.extend_from_slice(&input[..missing]);
        *input = &input[missing..];
    }
}

/// The length of the frame that `input` starts with, once its four bytes are there.
fn frame_length(input: &[u8]) -> Result<Option<usize>> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(Error::corrupt(format!("a frame of {length} bytes: the stream is broken")));
    }
    Ok(Some(length))
}

fn read_frame(frame: &[u8]) -> Result<Message> {
    let mut cursor = Cursor(&frame[1..]);
    let message = match frame[0] {
        STEPS => Message::Steps(cursor.many(Cursor::step)?),
        GRAPH => Message::Graph(cursor.u32()?, cursor.text()?),
        CANCEL => Message::Cancel(cursor.u64()?),
        STOP => Message::Stop,
        STATE => Message::State(cursor.u64()?, cursor.text()?),
        RESULTS => Message::Results(cursor.many(Cursor::result)?),
        HELLO => Message::Hello(cursor.text()?),
        FETCH => Message::Fetch(cursor.u64()?, cursor.text()?),
        kind => return Err(Error::corrupt(format!("a frame of the unknown kind {kind}"))),
    };
    if cursor.0.is_empty() {
        Ok(message)
    } else {
        Err(Error::corrupt(format!("a frame of kind {} has {} bytes too many", frame[0], cursor.0.len())))
    }
}

/// What is left of a payload.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        let (text, tail) = self.0.split_at_checked(length).ok_or_else(too_short)?;
        self.0 = tail;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::corrupt("a text in a frame is not UTF-8")),
        }
    }

    /// A counted list. The count reserves no more than the payload can hold.
    fn many<T>(&mut self, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u32()? as usize;
        let mut items = Vec::with_capacity(count.min(self.0.len() / 21));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn step(&mut self) -> Result<StepIn> {
        Ok(StepIn {
            dispatch: self.u64()?,
            graph_no: self.u32()?,
            attempt: self.u32()?,
            step: self.u64()?,
            created_at_ms: self.i64()?,
            step_created_at_ms: self.i64()?,
            budget_ms: self.i64()?,
            flow_key: self.text()?,
            node: self.text()?,
            task: self.text()?,
            baggage: self.text()?,
            state: self.text()?,
            changes: self.text()?,
            calls: self.text()?,
            left_out: self.text()?,
        })
    }

    fn result(&mut self) -> Result<ResultIn> {
        let dispatch = self.u64()?;
        let [outcome] = self.bytes()?;
        Ok(ResultIn {
            dispatch,
            outcome: Outcome::from_byte(outcome)
                .ok_or_else(|| Error::corrupt(format!("a result with the unknown outcome {outcome}")))?,
            ran_us: self.u32()?,
            changes: self.text()?,
            meta: self.text()?,
        })
    }
}

fn too_short() -> Error {
    Error::corrupt("a frame ends before its content")
}
