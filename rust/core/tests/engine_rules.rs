//! Rules of the engine that chance seldom meets, one scenario each.

#[path = "support/bench.rs"]
mod bench;

use bench::{names, Bench, FAILURE, INTERRUPT, LEAF, NOW, PAIR};
use penstock_core::batch::{Batch, Op};
use penstock_core::engine::Mail;
use penstock_core::scheduler::TaskKind;
use penstock_core::wire::{FrameReader, Outcome};

#[test]
fn a_sibling_that_is_cancelled_takes_its_question_and_its_child_with_it() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    let both =
        r#"{"calls":[{"kind":"subgraph","target":"leaf","input":{}},{"kind":"interrupt","payload":1}]}"#;
    bench.finish("left", Outcome::Parked, both);
    bench.commit();
    bench.finish("right", Outcome::Error, FAILURE);
    let batches = bench.commit();
    assert_eq!(names(&batches), ["failed", "close", "control", "cancelled", "failed"]);
    bench.hand_out();
    assert_eq!(bench.cancelled.len(), 1);
    bench.finish("ask", Outcome::Done, "");
    assert_eq!(bench.engine.entries(), 0);
}

#[test]
fn a_sibling_that_runs_is_told_to_stop_and_its_late_result_counts_for_nothing() {
    let mut bench = Bench::new(1, &[("pair", PAIR)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    bench.finish("right", Outcome::Error, FAILURE);
    bench.commit();
    bench.hand_out();
    assert_eq!(bench.cancelled.len(), 1);
    bench.finish("left", Outcome::Done, "");
    assert!(!bench.engine.has_batch());
    assert_eq!(bench.engine.entries(), 0);
}

#[test]
fn a_flow_is_loaded_again_only_when_no_part_of_the_batch_holds_rows_of_it() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    let parent = bench.create("leaf", 1);
    bench.commit();
    bench.finish("ask", Outcome::Parked, r#"{"calls":[{"kind":"subgraph","target":"leaf","input":{}}]}"#);
    bench.commit();
    let child = bench.engine.owned().into_iter().find(|flow| *flow != parent).unwrap();
    for flow in [parent, child] {
        let mail = Mail { seq: 1, kind: "resume".into(), body: "{}".into() };
        assert!(bench.engine.deliver(&flow, 1, vec![mail], NOW));
    }
    let batch = bench.engine.take_batch().unwrap();
    let (first, second) = batch.split().unwrap();
    let (of_parent, of_child) = if first.items[0].flow == parent { (first, second) } else { (second, first) };
    // What the child comes to is bound to its parent, and not written yet.
    bench.finish("ask", Outcome::Done, "");
    let report = bench.engine.refuse(&of_parent, "bad data");
    assert_eq!(report.reload, [parent]);
    let report = bench.engine.committed(of_child, &[], NOW);
    assert_eq!(report.reload, [child]);
    assert!(!bench.engine.has_batch());
}

#[test]
fn only_losses_alone_make_a_step_poison() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    let mut events = Vec::new();
    for worker in 0..10 {
        let steps = bench.running.len();
        bench.running.clear();
        bench.engine.worker_gone(worker, "signal 9", NOW);
        bench.engine.worker_ready(worker + 1);
        bench.readers.push(FrameReader::new());
        let batches = bench.commit();
        events.extend(names(&batches));
        assert!(steps == 2 || (worker > 0 && steps < 2), "lost steps run one at a time");
        if events.iter().any(|event| event == "failed") {
            break;
        }
    }
    // One loss of both together, then three of each alone: the first to reach them ends the flow.
    let lost = events.iter().filter(|event| *event == "lost").count();
    assert!((4..=6).contains(&lost), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("failed"));
}

#[test]
fn a_malformed_interrupt_id_answers_nothing() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let flow = bench.create("leaf", 1);
    bench.commit();
    bench.finish("ask", Outcome::Parked, INTERRUPT);
    bench.commit();
    let body = r#"{"interrupt_id":"nonsense","answer":1}"#.to_owned();
    bench.engine.deliver(&flow, 1, vec![Mail { seq: 1, kind: "resume".into(), body }], NOW);
    let batches = bench.commit();
    let verdicts: Vec<_> = batches.iter().flat_map(|batch| &batch.items).map(|item| &item.op).collect();
    assert!(matches!(verdicts[0], Op::Verdict { verdict, .. } if verdict.contains("conflict")));
}

#[test]
fn an_older_word_of_a_child_that_comes_later_counts_for_nothing() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let parent = bench.create("leaf", 1);
    bench.commit();
    bench.finish("ask", Outcome::Parked, r#"{"calls":[{"kind":"subgraph","target":"leaf","input":{}}]}"#);
    bench.commit();
    let child = bench.engine.owned().into_iter().find(|flow| *flow != parent).unwrap();
    let mut said = Vec::new();
    for (seq, ord, is_asking) in [(1, 7, false), (2, 5, true), (3, 9, true)] {
        let body = format!(
            r#"{{"what":"child_state","step":1,"child":"{}","ord":{ord},"asking":{is_asking}}}"#,
            penstock_core::ids::hex(&child)
        );
        bench.engine.deliver(&parent, seq, vec![Mail { seq, kind: "child_state".into(), body }], NOW);
        let batches = bench.commit();
        let items = batches.iter().flat_map(|batch| &batch.items);
        said.extend(items.filter_map(|item| match &item.op {
            Op::Status { status, .. } => Some((seq, *status)),
            _ => None,
        }));
    }
    assert_eq!(said, [(3, "interrupted")]);
}

#[test]
fn a_kept_signal_answers_the_next_wait_in_the_commit_of_its_park() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let flow = bench.create("leaf", 1);
    bench.commit();
    for seq in 1..=2 {
        let body = format!(r#"{{"name":"go","payload":{seq}}}"#);
        bench.engine.deliver(&flow, seq, vec![Mail { seq, kind: "signal".into(), body }], NOW);
    }
    bench.commit();
    let wait = r#"{"calls":[{"kind":"signal","target":"go","at":0}]}"#;
    bench.finish("ask", Outcome::Parked, wait);
    let batch = bench.engine.take_batch().unwrap();
    assert_eq!(names(std::slice::from_ref(&batch)), ["parked", "resolved"]);
    bench.engine.committed(batch, &[], NOW);
    bench.hand_out();
    let (_, step) = &bench.running[0];
    assert_eq!(step.calls, r#"[{"kind":"signal","target":"go","at":0,"answer":1}]"#);
}

#[test]
fn a_child_whose_graph_is_looked_for_is_created_when_it_is_found() {
    let mut bench = Bench::new(1, &[("leaf", LEAF), ("pair", PAIR)]);
    bench.engine.ask_for_graphs();
    bench.create("leaf", 1);
    bench.commit();
    let calls = r#"{"calls":[{"kind":"subgraph","target":"shelf","input":{}}]}"#;
    bench.finish("ask", Outcome::Parked, calls);
    assert_eq!(names(&bench.commit()), ["parked"]);
    let wanted = bench.engine.take_wanted();
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].workflow, "shelf");
    let graph = bench.engine.workflow("pair").unwrap();
    assert!(bench.engine.found_graph(&wanted[0], Ok(graph), NOW));
    assert!(!bench.engine.found_graph(&wanted[0], Ok(graph), NOW), "it is created once");
    assert_eq!(names(&bench.commit()), ["Create", "control"]);
    assert_eq!(bench.engine.owned().len(), 2);
}

/// Events that a batch writes of steps.
fn events(batches: &[Batch]) -> Vec<(String, &'static str, String)> {
    let items = batches.iter().flat_map(|batch| &batch.items);
    let row = |op: &Op| match op {
        Op::Journal(row) => Some((row.node.clone(), row.event, row.body.clone())),
        _ => None,
    };
    items.filter_map(|item| row(&item.op)).collect()
}

/// Both branches of a pair run in one worker; gives the dispatch of the left one.
fn running_pair(kind: TaskKind) -> (Bench, u64) {
    let mut bench = Bench::new(1, &[("pair", PAIR)]);
    bench.engine.set_default_kind(kind);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    let left = bench.running.iter().find(|(_, step)| step.node == "left").unwrap().1.dispatch;
    (bench, left)
}

#[test]
fn a_worker_that_is_ended_for_one_step_does_not_charge_the_others() {
    let (mut bench, left) = running_pair(TaskKind::Async);
    let (_, left_step) = bench.running[0].clone();
    assert_eq!((left_step.dispatch, left_step.budget_ms), (left, 1_000));
    bench.finish("right", Outcome::Retry, r#"{"delay_ms":900}"#);
    bench.commit();
    bench.pass_to(NOW + 900);
    bench.hand_out_at(NOW + 900);
    assert_eq!(bench.running.len(), 2, "the right one began later");

    let (place, budget) = bench.engine.next_due();
    assert_eq!((place, budget), (Some(NOW + 1_000), Some(100)), "its place is written then");
    bench.pass_to(NOW + 1_000);
    bench.hand_out();
    assert_eq!(bench.cancelled, [left], "it is told");
    assert!(bench.engine.overdue().is_empty());
    bench.pass_to(NOW + 1_999);
    let late = bench.engine.overdue();
    assert!(late.is_empty(), "its grace is not over: {late:?}");
    bench.pass_to(NOW + 2_000);
    let late = bench.engine.overdue();
    assert_eq!(late.iter().map(|late| (late.worker, late.dispatch)).collect::<Vec<_>>(), [(0, left)]);
    assert!(late[0].why.contains("left") && late[0].why.contains("1 s"), "{late:?}");

    bench.running.clear();
    bench.engine.worker_gone(0, "signal 9", NOW + 2_001);
    bench.engine.worker_ready(1);
    bench.readers.push(FrameReader::new());
    let batches = bench.commit();
    let events = events(&batches);
    let [(node, event, body), ..] = &events[..] else { panic!("{events:?}") };
    assert_eq!((node.as_str(), *event), ("left", "failed"));
    assert!(body.contains(r#""code":"time_budget""#), "{body}");
    assert!(events.iter().all(|(_, event, _)| *event != "lost"), "{events:?}");
}

#[test]
fn a_late_result_of_a_step_that_was_told_is_its_failure() {
    let (mut bench, _) = running_pair(TaskKind::Async);
    bench.pass_to(NOW + 1_000);
    bench.finish("left", Outcome::Done, "");
    let events = events(&bench.commit());
    assert_eq!((events[0].0.as_str(), events[0].1), ("left", "failed"));
    assert!(events[0].2.contains(r#""code":"time_budget""#));
}

#[test]
fn a_place_that_is_given_up_is_free_and_its_late_result_counts_for_nothing() {
    let (mut bench, left) = running_pair(TaskKind::Async);
    bench.pass_to(NOW + 1_000);
    bench.engine.give_up(0, left, NOW + 2_000);
    let told = events(&bench.commit());
    assert_eq!((told[0].0.as_str(), told[0].1), ("left", "failed"));
    bench.finish("left", Outcome::Done, "");
    assert!(bench.commit().is_empty());
    assert_eq!(bench.engine.load().2, 0);
}

#[test]
fn a_clock_that_is_set_is_no_time_that_a_task_ran() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    bench.engine.set_steady(5_000);
    bench.create("leaf", 1);
    bench.commit();
    bench.engine.set_steady(5_999);
    bench.engine.tick(NOW + 86_400_000);
    bench.hand_out();
    assert!(bench.cancelled.is_empty());
    assert_eq!(bench.engine.next_due(), (None, Some(1)));
    bench.engine.set_steady(6_000);
    bench.engine.tick(NOW);
    bench.hand_out();
    assert_eq!(bench.cancelled.len(), 1);
}

#[test]
fn a_cancelled_step_that_does_not_end_is_given_up_at_its_budget() {
    let (mut bench, left) = running_pair(TaskKind::Sync);
    bench.finish("right", Outcome::Error, FAILURE);
    bench.commit();
    assert_eq!(bench.cancelled, [left]);
    bench.pass_to(NOW + 1_999);
    assert!(bench.engine.overdue().is_empty());
    bench.pass_to(NOW + 2_000);
    bench.pass_to(NOW + 3_000);
    assert_eq!(bench.engine.overdue().last().map(|late| late.dispatch), Some(left));
}

#[test]
fn a_step_whose_resource_is_gone_waits_for_the_probe_and_nothing_is_written() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let first = bench.create("leaf", 1);
    bench.commit();
    let second = bench.create("leaf", 2);
    bench.commit();
    bench.finish(
        "ask",
        Outcome::Error,
        r#"{"code":"unavailable","message":"refused","class":"unavailable"}"#,
    );
    assert!(bench.commit().is_empty());
    bench.hand_out();
    let waits = bench.engine.waiting(Some("ask"), 10, NOW);
    assert_eq!(
        waits.iter().map(|wait| (wait.reason, wait.until)).collect::<Vec<_>>(),
        [("breaker", Some(NOW + 100))]
    );
    assert!(waits[0].detail.contains("refused") && [first, second].contains(&waits[0].flow));
    let (row, ready) = bench.engine.resources(NOW).remove(0);
    assert_eq!((&*row.name, ready, row.running, row.trip.is_some()), ("ask", 1, 1, true));
    assert_eq!(bench.engine.take_resource_changes().len(), 1);
    assert_eq!(bench.engine.next_due().0, Some(NOW + 100));
}

const AWAY: &str = r#"{"code":"away","message":"refused","class":"unavailable"}"#;

/// Four flows that fill the room and wait for a resource that is away.
fn crowded() -> Bench {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    bench.engine.set_room(4);
    (1..=4).for_each(|number| {
        bench.create("leaf", number);
    });
    bench.commit();
    (0..4).for_each(|_| bench.finish("ask", Outcome::Error, AWAY));
    assert!(!bench.engine.has_batch(), "a bounce is not written");
    bench.hand_out();
    assert_eq!(bench.engine.room(), 0);
    bench
}

#[test]
fn flows_of_a_dead_resource_leave_half_of_the_room_to_others() {
    let mut bench = crowded();
    bench.pass_to(NOW + 1);
    let batches = bench.commit();
    assert_eq!(names(&batches), ["Status", "Release", "Status", "Release"]);
    let mut kept = bench.engine.owned();
    kept.sort_unstable();
    assert_eq!(kept, [[1; 16], [2; 16]], "the oldest stay");
    assert!(bench.engine.room() > 0);
    bench.pass_to(NOW + 1_000);
    assert!(!bench.engine.has_batch(), "half of the room is theirs");
    bench.hand_out_at(NOW + 1_000);
    bench.finish("ask", Outcome::Done, "");
    bench.commit();
    bench.hand_out_at(NOW + 2_500);
    bench.finish("ask", Outcome::Done, "");
    bench.commit();
    assert_eq!(bench.engine.entries(), 0, "nothing is left of those that were given back");
}

#[test]
fn a_flow_that_cannot_be_given_back_goes_on_waiting_for_its_resource() {
    let mut bench = crowded();
    bench.pass_to(NOW + 1);
    let batch = bench.engine.take_batch().unwrap();
    let units: Vec<u32> = batch.items.iter().map(|item| item.unit).collect();
    bench.engine.set_room(100);
    bench.engine.committed(batch, &units, NOW);
    bench.commit();
    bench.pass_to(NOW + 2_000);
    bench.commit();
    let ready = bench.engine.waiting(None, 10, NOW + 2_000);
    assert_eq!((bench.engine.owned().len(), ready.len()), (4, 4), "{ready:?}");
}
