//! Folds, reducers, numbers and JSON against naive models.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use num_bigint::BigInt;
use penstock_core::json::{canonical, escape, object_fields, Json, Value};
use penstock_core::number::Number;
use penstock_core::state::{reduce, Change, Changes, Delta, Reducer, Reducers, State};
use proptest::prelude::*;

/// Every field is named after its reducer.
fn reducers() -> Reducers {
    Reducer::ALL.into_iter().map(|reducer| (reducer.name().into(), reducer)).collect()
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    escape(text, &mut out);
    out
}

fn value(raw: &str) -> Value {
    Value::parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-5_i64..5).prop_map(|i| i.to_string()),
        any::<i64>().prop_map(|i| i.to_string()),
        "-?[1-9][0-9]{17,40}",
        (-9_i32..9).prop_map(|i| (f64::from(i) / 10.0).to_string()),
        "-?[1-9]\\.[0-9]{1,17}(e-?[0-9]|E\\+1[0-9])?",
    ]
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| quoted(&text)),
        Just("\"\\ud83d\"".to_owned()),
        Just("\"\\ude00x\\u0000\\/\"".to_owned()),
        "[a-c]{0,2}".prop_map(|text| quoted(&text)),
    ]
}

fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![number(), string(), Just("null".into()), Just("true".into()), Just("false".into())];
    leaf.prop_recursive(4, 24, 5, |inner| prop_oneof![array(inner.clone()), object(inner)])
}

fn array(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (prop::collection::vec(item, 0..5), prop_oneof![Just(","), Just(" , ")])
        .prop_map(|(items, comma)| format!("[ {} ]", items.join(comma)))
}

fn object(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((string(), item), 0..5).prop_map(|fields| {
        let members: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// What a reducer can take.
fn contribution(reducer: Reducer) -> BoxedStrategy<String> {
    let fit = match reducer {
        Reducer::Replace | Reducer::Append | Reducer::Union => {
            prop_oneof![json(), array((0..4_u8).prop_map(|i| i.to_string()))].boxed()
        }
        Reducer::Add | Reducer::Min | Reducer::Max => number().boxed(),
        Reducer::Merge => object(json()).boxed(),
        Reducer::And | Reducer::Or => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        Reducer::Concat => string().boxed(),
    };
    prop_oneof![9 => fit, 1 => Just("null".to_owned())].boxed()
}

fn reducer() -> impl Strategy<Value = Reducer> {
    prop::sample::select(Reducer::ALL.to_vec())
}

/// One JSON object of up to `max` fields.
fn fields(max: usize) -> impl Strategy<Value = String> {
    let field = reducer().prop_flat_map(|r| (Just(r.name()), contribution(r)));
    prop::collection::vec(field, 0..=max).prop_map(|fields| {
        let unique: BTreeMap<&str, String> = fields.into_iter().collect();
        let members: Vec<String> =
            unique.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// One step in the worker's form.
fn step() -> impl Strategy<Value = String> {
    let del = prop_oneof![Just("[]"), Just("[\"replace\"]")];
    (fields(4), fields(1), del).prop_map(|(set, overwrite, del)| {
        format!("{{\"set\":{set},\"overwrite\":{overwrite},\"del\":{del}}}")
    })
}

/// The elements that append and union see in a value.
fn elements(raw: &str) -> Vec<Json> {
    let value = value(raw);
    value.elements().unwrap_or_else(|| vec![value]).iter().map(Value::decode).collect()
}

fn naive(reducer: Reducer, base: Option<&str>, adds: &[String]) -> Json {
    let contributed: Vec<&str> = adds.iter().map(String::as_str).filter(|raw| *raw != "null").collect();
    let all: Vec<&str> = base.into_iter().chain(contributed.iter().copied()).collect();
    if reducer == Reducer::Replace {
        let last = adds.last().map(String::as_str).or(base);
        return last.map_or(Json::Null, |raw| value(raw).decode());
    }
    if contributed.is_empty() {
        return base.map_or(Json::Null, |raw| value(raw).decode());
    }
    let numbers = || all.iter().map(|raw| Number::parse(raw).unwrap());
    match reducer {
        Reducer::Append => Json::Array(all.iter().flat_map(|raw| elements(raw)).collect()),
        Reducer::Union => Json::Array(naive_union(base, &contributed)),
        Reducer::Add => Json::Number(numbers().reduce(|sum, number| sum.add(&number).unwrap()).unwrap()),
        Reducer::Min => Json::Number(numbers().reduce(|a, b| if b < a { b } else { a }).unwrap()),
        Reducer::Max => Json::Number(numbers().reduce(|a, b| if b > a { b } else { a }).unwrap()),
        Reducer::Merge => naive_merge(&all),
        Reducer::And => Json::Bool(all.iter().all(|raw| *raw == "true")),
        Reducer::Or => Json::Bool(all.contains(&"true")),
        Reducer::Concat | Reducer::Replace => {
            let inner: Vec<&str> = all.iter().map(|raw| &raw[1..raw.len() - 1]).collect();
            value(&format!("\"{}\"", inner.concat())).decode()
        }
    }
}

fn naive_union(base: Option<&str>, contributed: &[&str]) -> Vec<Json> {
    let mut kept: Vec<Json> = base.into_iter().flat_map(elements).collect();
    for element in contributed.iter().flat_map(|raw| elements(raw)) {
        if kept.iter().all(|other| other.canonical() != element.canonical()) {
            kept.push(element);
        }
    }
    kept
}

fn naive_merge(objects: &[&str]) -> Json {
    let mut merged: Vec<(_, Json)> = Vec::new();
    for object in objects {
        let Json::Object(fields) = value(object).decode() else { panic!("{object} is not an object") };
        for (name, value) in fields {
            match merged.iter_mut().find(|(other, _)| *other == name) {
                Some(field) => field.1 = value,
                None => merged.push((name, value)),
            }
        }
    }
    Json::Object(merged)
}

/// Whether an integer is below, at or above a float, over a common denominator.
fn order_exactly(int: &BigInt, float: f64) -> Ordering {
    let bits = float.abs().to_bits();
    let exponent = bits >> 52;
    let mantissa = (bits & ((1 << 52) - 1)) | if exponent == 0 { 0 } else { 1 << 52 };
    let signed = BigInt::from(mantissa) * if float < 0.0 { -1 } else { 1 };
    (int << 1074_u32).cmp(&(signed << (exponent.max(1) - 1)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn folding_a_composed_delta_is_folding_step_by_step(
        steps in prop::collection::vec(step(), 0..8),
        compacted in prop::collection::vec(any::<bool>(), 8),
        start in fields(6),
    ) {
        let reducers = reducers();
        let base = State::from_json(&start).unwrap();
        let mut by_step = base.clone();
        let [mut composed, mut appended, mut short] = [(); 3].map(|()| Delta::default());
        for (step, is_compacted) in steps.iter().zip(compacted) {
            let changes = Changes::from_task(step, &reducers).unwrap();
            let mut one = Delta::default();
            one.push(&changes);
            by_step = by_step.fold(&one, &reducers).unwrap();
            composed.push(&changes);
            short.append_ref(&one);
            appended.append(one);
            if is_compacted {
                short.compact(&reducers);
            }
            let mut journal = String::new();
            changes.to_journal(&mut journal);
            prop_assert_eq!(Changes::from_journal(&journal).unwrap(), changes);
        }
        prop_assert_eq!(&base.fold(&composed, &reducers).unwrap(), &by_step);
        prop_assert_eq!(&base.fold(&short, &reducers).unwrap(), &by_step);
        prop_assert_eq!(&appended, &composed);
        prop_assert_eq!(&Delta::from_json(&composed.to_json()).unwrap(), &composed);
        prop_assert_eq!(State::from_json(&by_step.to_json()).unwrap(), by_step);
    }

    #[test]
    fn compacting_is_neutral_on_every_base(
        (reducer, base, adds) in prop_oneof![Just(Reducer::Add), reducer()].prop_flat_map(|r| {
            (Just(r), prop::option::of(contribution(r)), prop::collection::vec(contribution(r), 2..6))
        }),
    ) {
        let field = reducer.name();
        let base: State = base.iter().map(|raw| (field.into(), value(raw))).collect();
        let mut delta = Delta::default();
        for raw in &adds {
            delta.push(&[(field.into(), Change::Contribute(value(raw)))].into_iter().collect());
        }
        let folded = base.fold(&delta, &reducers()).unwrap();
        delta.compact(&reducers());
        prop_assert_eq!(base.fold(&delta, &reducers()).unwrap(), folded);
    }

    #[test]
    fn a_reducer_does_what_its_naive_model_does(
        (reducer, base, adds) in reducer().prop_flat_map(|r| {
            (Just(r), prop::option::of(contribution(r)), prop::collection::vec(contribution(r), 0..6))
        }),
    ) {
        let base = base.filter(|raw| raw != "null");
        let contributed: Vec<Value> = adds.iter().map(|raw| value(raw)).collect();
        let reduced = reduce(reducer, base.as_deref().map(value).as_ref(), &contributed).unwrap();
        prop_assert_eq!(value(reduced.raw()), reduced.clone());
        prop_assert_eq!(reduced.decode().encoded(), naive(reducer, base.as_deref(), &adds).encoded());
    }

    #[test]
    fn json_survives_a_round_trip(raw in json()) {
        let decoded = value(&format!(" {raw}\n")).decode();
        let written = decoded.encoded();
        prop_assert_eq!(&value(&written).decode(), &decoded);
        prop_assert_eq!(canonical(&written), canonical(&raw));
        let once = canonical(&raw);
        prop_assert_eq!(canonical(&once), canonical(&raw));
    }

    #[test]
    fn the_parser_takes_what_serde_json_takes(
        raw in json(),
        at in any::<prop::sample::Index>(),
        new in "[ \\[\\]{}\",:0-9.eE+\\-\\\\untrfals\u{1}]?",
    ) {
        let mut chars: Vec<String> = raw.chars().map(String::from).collect();
        let at = at.index(chars.len());
        chars[at] = new;
        let text = chars.concat();
        let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let parsed = Value::parse(&text);
        // A mutation may give an exponent that serde_json passes over.
        let is_out_of_range = parsed.as_ref().is_err_and(|error| error.message.contains("range of a float"));
        prop_assert!(is_out_of_range || parsed.is_ok() == expected, "{}", text);
        if text.starts_with('{') && !expected {
            prop_assert!(object_fields(&text).is_err(), "{}", text);
        }
    }

    #[test]
    fn integers_are_those_of_exact_arithmetic(a in "-?[1-9][0-9]{0,40}", b in "-?[1-9][0-9]{0,25}") {
        let (x, y): (BigInt, BigInt) = (a.parse().unwrap(), b.parse().unwrap());
        let (m, n) = (Number::parse(&a).unwrap(), Number::parse(&b).unwrap());
        prop_assert_eq!(m.to_text(), a);
        prop_assert_eq!(m.add(&n).unwrap().to_text(), (&x + &y).to_string());
        prop_assert_eq!(m.sub(&n).unwrap().to_text(), (&x - &y).to_string());
        prop_assert_eq!(m.mul(&n).unwrap().to_text(), (&x * &y).to_string());
        prop_assert_eq!(m.rem(&n).unwrap().to_text(), (((&x % &y) + &y) % &y).to_string());
        prop_assert_eq!(m.neg().to_text(), (-&x).to_string());
        prop_assert_eq!(m.cmp(&n), x.cmp(&y));
        let nearest: f64 = x.to_string().parse().unwrap();
        let quotient = m.mul(&n).unwrap().div(&n).unwrap();
        prop_assert_eq!(quotient.to_f64().unwrap().to_bits(), nearest.to_bits());
    }

    #[test]
    fn integers_and_floats_are_ordered_exactly(
        float in prop_oneof![prop::num::f64::NORMAL | prop::num::f64::ZERO, -1e25..1e25],
        offset in -2_i64..3,
    ) {
        let number = Number::float(float).unwrap();
        let again = Number::parse(&number.to_text()).unwrap();
        prop_assert_eq!(again.to_f64().unwrap().to_bits(), float.to_bits());
        let near = format!("{:.0}", float.trunc()).parse::<BigInt>().unwrap() + offset;
        prop_assert_eq!(Number::from(near.clone()).cmp(&number), order_exactly(&near, float));
    }
}
