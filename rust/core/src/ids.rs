//! Ids and keys: a flow key is `{shard}-{flow id in base32}`, a step key `{flow key}/{step number}`.

use std::sync::Mutex;

use crate::error::{Error, Result};

/// A flow's id: a `UUIDv7` in form, made by whoever creates the flow.
pub type FlowId = [u8; 16];

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ENCODED_LEN: usize = 26;

/// A new id: 48 bits of time and 74 bits of `random`, drawn anew for each id, because the key is a capability.
pub fn new_id(now_ms: i64, random: [u8; 16]) -> FlowId {
    let mut id = random;
    let time = (now_ms.max(0) as u64).to_be_bytes();
    id[..6].copy_from_slice(&time[2..]);
    id[6] = (id[6] & 0x0f) | 0x70;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

/// The time in an id, in milliseconds since 1970.
pub fn made_at(id: &FlowId) -> u64 {
    let mut time = [0; 8];
    time[2..].copy_from_slice(&id[..6]);
    u64::from_be_bytes(time)
}

/// Ids in the order in which they are made, so that flows of one millisecond are listed as they were created.
///
/// Each is drawn anew: one of a millisecond that has had one already is drawn from what lies above that. Once fewer
/// than 2^64 ids are left above, the next one takes the millisecond after, so none has less than 64 bits of chance.
pub struct Sequence(Mutex<u128>);

/// The bits of an id that are random: 12 after its time, and 62 after its variant.
const RANDOM_BITS: u32 = 74;

impl Sequence {
    /// How far ids may run ahead of the clock; a clock that is further behind was set back, or cannot keep up.
    const AHEAD_MS: u64 = 1_000;

    /// A sequence that has made none.
    pub const fn new() -> Self {
        Self(Mutex::new(0))
    }

    /// The next id. While another thread draws one, theirs and this one have no order.
    pub fn next(&self, now_ms: i64, random: [u8; 16]) -> FlowId {
        let id = new_id(now_ms, random);
        let Ok(mut last) = self.0.try_lock() else { return id };
        let place = place_of(&id);
        let last_ms = (*last >> RANDOM_BITS) as u64;
        let is_far = last_ms > now_ms.max(0).cast_unsigned() + Self::AHEAD_MS;
        *last = if place > *last || is_far { place } else { above(*last, place) };
        id_at(*last)
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}

/// A place above `last`, drawn by the random bits of `place`.
fn above(last: u128, place: u128) -> u128 {
    let (whole, chance) = (1u128 << RANDOM_BITS, place & ((1 << RANDOM_BITS) - 1));
    let room = whole - 1 - (last & (whole - 1));
    if room >> 64 > 0 {
        last + 1 + chance % room
    } else {
        (((last >> RANDOM_BITS) + 1) << RANDOM_BITS) | chance
    }
}

/// An id without its version and variant: as numbers these have the order of their ids.
fn place_of(id: &FlowId) -> u128 {
    let id = u128::from_be_bytes(*id);
    let (time, high, low) = (id >> 80, id >> 64 & 0xfff, id & ((1 << 62) - 1));
    (time << RANDOM_BITS) | (high << 62) | low
}

fn id_at(place: u128) -> FlowId {
    let (time, high, low) = (place >> RANDOM_BITS, place >> 62 & 0xfff, place & ((1 << 62) - 1));
    ((time << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low).to_be_bytes()
}

/// Writes 16 bytes as 26 characters of base32 (RFC 4648, lower case, no padding).
pub fn encode(id: &FlowId) -> String {
    let mut out = String::with_capacity(ENCODED_LEN);
    let (mut buffer, mut bits) = (0u32, 0);
    for byte in id {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(ALPHABET[(buffer >> bits) as usize & 31] as char);
        }
        buffer &= (1 << bits) - 1;
    }
    out.push(ALPHABET[(buffer << (5 - bits)) as usize & 31] as char);
    out
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub fn decode(text: &str) -> Option<FlowId> {
    if text.len() != ENCODED_LEN {
        return None;
    }
    let (mut id, mut at, mut buffer, mut bits) = ([0u8; 16], 0, 0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'a'..=b'z' => c - b'a',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            id[at] = (buffer >> bits) as u8;
            at += 1;
            buffer &= (1 << bits) - 1;
        }
    }
    (buffer == 0).then_some(id)
}

/// The key of a flow.
pub fn flow_key(shard: u32, id: &FlowId) -> String {
    format!("{shard}-{}", encode(id))
}

/// The shard and the id that a flow key names.
///
/// # Errors
/// `not_found` for anything that is not the form of a key: a malformed key is no different from a wrong one.
pub fn parse_flow_key(key: &str) -> Result<(u32, FlowId)> {
    let parsed = key.split_once('-').and_then(|(shard, id)| {
        Some((shard.parse().ok().filter(|_| !shard.starts_with(['+', '0']))?, decode(id)?))
    });
    parsed.ok_or_else(|| {
        Error::not_found(format!("no flow has the key {key:?}; pass the key that create() returned"))
    })
}

/// The shard, the flow and the step number that a step key names.
///
/// # Errors
/// `not_found`, as [`parse_flow_key`].
pub fn parse_step_key(key: &str) -> Result<(u32, FlowId, u64)> {
    let not_found = || {
        Error::not_found(format!(
            "no step has the key {key:?}; step keys look like FLOWKEY/NUMBER and stand in history()"
        ))
    };
    let (flow, step) = key.split_once('/').ok_or_else(not_found)?;
    let (shard, id) = parse_flow_key(flow).map_err(|_| not_found())?;
    // One spelling for one step.
    let number = step.parse().ok().filter(|number: &u64| number.to_string() == step);
    Ok((shard, id, number.ok_or_else(not_found)?))
}

/// Lower-case hexadecimal, for ids inside journal bodies.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads 32 hexadecimal digits.
pub fn unhex(text: &str) -> Option<FlowId> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_instant_stand_in_the_order_of_their_making() {
        let ids = Sequence::new();
        let mut chance = 7_u128;
        let mut random = || {
            chance = chance.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x1405_7b7e_f767_814f);
            (chance ^ chance >> 61).to_be_bytes()
        };
        let made: Vec<_> = (0..1_000).map(|_| ids.next(77, random())).collect();
        assert!(made.is_sorted());
        assert!(made.iter().all(|id| (id[6] >> 4, id[8] >> 6) == (7, 2)));
        assert!(ids.next(70, random()) > made[999], "a clock that goes back a little");
        let lasts: std::collections::BTreeSet<_> = made.iter().map(|id| id[15]).collect();
        assert!(lasts.len() > 200, "each is drawn anew: {}", lasts.len());
        assert_eq!(ids.next(50_000, random())[..6], new_id(50_000, [0; 16])[..6]);
        assert_eq!(ids.next(9, random())[..6], new_id(9, [0; 16])[..6], "another clock");
    }

    #[test]
    fn the_place_of_an_id_is_all_of_it() {
        for id in [new_id(77, [0xa5; 16]), new_id(1 << 47, [0; 16]), new_id(0, [0xff; 16])] {
            assert_eq!(id_at(place_of(&id)), id);
        }
    }

    #[test]
    fn a_key_names_its_flow_and_nothing_else() {
        let id = new_id(1_700_000_000_000, [0xa5; 16]);
        let key = flow_key(3, &id);
        assert_eq!(parse_flow_key(&key).unwrap(), (3, id));
        assert_eq!(parse_step_key(&format!("{key}/17")).unwrap(), (3, id, 17));
        for wrong in ["", "017", "+17", "-1", "1/7"] {
            assert!(parse_step_key(&format!("{key}/{wrong}")).is_err(), "{wrong}");
        }
        for wrong in
            ["", "3", "3-", "x-aaaa", "-aaaa", &key.to_uppercase(), &key[..key.len() - 1], &format!("0{key}")]
        {
            assert!(parse_flow_key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_sort_by_their_time_and_have_the_form_of_a_uuid7() {
        let (early, late) = (new_id(1, [0xff; 16]), new_id(2, [0; 16]));
        assert!(early < late);
        assert_eq!((early[6] >> 4, early[8] >> 6), (7, 2));
    }

    #[test]
    fn hex_is_read_back() {
        let id = new_id(9, [7; 16]);
        assert_eq!(unhex(&hex(&id)), Some(id));
        assert_eq!(unhex("zz"), None);
    }
}
