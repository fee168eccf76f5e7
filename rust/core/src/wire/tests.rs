use proptest::prelude::*;

use super::*;

fn step(dispatch: u64, state: &str) -> StepOut<'_> {
    StepOut {
        dispatch,
        graph_no: 7,
        attempt: 2,
        step: 11,
        created_at_ms: -1,
        step_created_at_ms: i64::MAX,
        budget_ms: 0,
        left_out: if dispatch == 2 { r#"["big"]"# } else { "" },
        flow_key: "0-abc",
        node: "nöde",
        task: "task",
        baggage: "",
        state,
        changes: "{}",
        calls: "[]",
    }
}

fn result(dispatch: u64, meta: &str) -> ResultOut<'_> {
    ResultOut { dispatch, outcome: Outcome::Parked, ran_us: 5, changes: "{}", meta }
}

fn every_kind() -> Vec<u8> {
    let mut writer = FrameWriter::new();
    writer.hello("{}");
    writer.graph(7, r#"{"log":"append"}"#);
    writer.step(&step(1, "{}")).expect("small");
    writer.step(&step(2, r#"{"a":1}"#)).expect("small");
    writer.cancel(1);
    writer.fetch(2, r#"["b"]"#);
    writer.state(2, r#"{"a":1,"b":2}"#).expect("small");
    writer.result(&result(1, "{}")).expect("small");
    writer.stop();
    writer.finish()
}

#[test]
fn items_that_follow_each_other_share_a_frame() {
    let messages = FrameReader::new().feed(&every_kind()).expect("written here");
    assert_eq!(messages.len(), 8);
    let Message::Steps(steps) = &messages[2] else { panic!("{messages:?}") };
    assert_eq!(steps.iter().map(|s| s.dispatch).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((steps[1].state.as_str(), steps[1].node.as_str()), (r#"{"a":1}"#, "nöde"));
    assert_eq!((&*steps[0].left_out, &*steps[1].left_out), ("", r#"["big"]"#));
    assert_eq!(messages[3], Message::Cancel(1));
    assert_eq!(messages[4], Message::Fetch(2, r#"["b"]"#.to_owned()));
    assert_eq!(messages[5], Message::State(2, r#"{"a":1,"b":2}"#.to_owned()));
    assert!(matches!(&messages[6], Message::Results(r) if r[0].outcome == Outcome::Parked));
    assert_eq!(messages[7], Message::Stop);
}

#[test]
fn a_large_batch_is_several_frames() {
    let state = "x".repeat(100_000);
    let mut writer = FrameWriter::new();
    for dispatch in 0..10 {
        writer.step(&step(dispatch, &state)).expect("small");
    }
    let messages = FrameReader::new().feed(&writer.finish()).expect("written here");
    assert!(messages.len() > 1);
    let total: usize = messages.iter().map(|m| if let Message::Steps(s) = m { s.len() } else { 0 }).sum();
    assert_eq!(total, 10);
    assert!(writer.is_empty());
}

#[test]
fn an_item_that_no_frame_can_hold_is_refused() {
    let state = "x".repeat(MAX_FRAME_BYTES);
    let mut writer = FrameWriter::new();
    writer.step(&step(1, "{}")).expect("small");
    let before = writer.len();
    assert!(writer.step(&step(2, &state)).is_err());
    assert!(writer.state(2, &state).is_err());
    assert_eq!(writer.len(), before);
}

#[test]
fn a_length_over_the_bound_is_refused_at_its_header() {
    assert!(FrameReader::new().feed(&u32::MAX.to_le_bytes()).is_err());
    assert!(FrameReader::new().feed(&[0, 0, 0, 0]).is_err());
}

#[test]
fn bytes_too_many_and_unknown_kinds_are_refused() {
    assert!(FrameReader::new().feed(&[2, 0, 0, 0, STOP, 0]).is_err());
    assert!(FrameReader::new().feed(&[1, 0, 0, 0, 99]).is_err());
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_reads_the_same(cuts in prop::collection::vec(1usize..40, 1..60)) {
        let bytes = every_kind();
        let whole = FrameReader::new().feed(&bytes).expect("written here");
        let mut reader = FrameReader::new();
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.extend(reader.feed(piece).expect("written here"));
            rest = tail;
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn broken_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = FrameReader::new().feed(&bytes);
        let mut framed = (bytes.len() as u32 + 1).to_le_bytes().to_vec();
        framed.push(STEPS);
        framed.extend(&bytes);
        let _ = FrameReader::new().feed(&framed);
    }
}
