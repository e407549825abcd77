//! Numbers that may be given as a share: `maxSurge: 25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Where half a pod goes.
#[derive(Clone, Copy)]
pub(crate) enum Round {
    Up,
    Down,
}

/// A number, or a share of `total`.
pub(crate) fn resolve(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let share = i64::from(total) * percent.max(0);
            let rounded = match round {
                Round::Up => (share + 99) / 100,
                Round::Down => share / 100,
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}
