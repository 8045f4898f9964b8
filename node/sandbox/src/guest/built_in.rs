//! Splits and merges that need no guest: the same bytes whatever engine runs the parts.

use super::{Failure, out::Out};
use crate::{
    call::{Budget, Op, Work},
    work::{Sink, WorkError, codec, frames, image_rows, json_array, runs},
};

/// Splits or merges by one of the built-in kinds of work.
pub fn run(op: Op, work: Work, mut input: Vec<u8>, budget: &Budget, out: &mut Out) -> Result<(), Failure> {
    match (op, work) {
        (Op::Split(_), Work::Whole) => out.put(&[&frames::prefix(input.len())?, &input]),
        (Op::Split(aim), Work::Bytes { size }) => runs::split_bytes(&input, size, aim, out),
        (Op::Split(aim), Work::Lines { n }) => runs::split_lines(&input, n, aim, out),
        (Op::Split(aim), Work::JsonArray) => json_array::split(&input, aim, out),
        (Op::Split(aim), Work::ImageRows { halo }) => {
            let picture = codec::decode(&input, budget.memory)?;
            image_rows::split(&picture, halo, aim, out)
        }
        (Op::Merge, Work::Whole) => {
            let mut parts = frames::read(&input);
            match (parts.next().transpose()?, parts.next()) {
                (Some(part), None) => out.put(&[part]),
                _ => Err(WorkError::bad("a service that is not split has one part").into()),
            }
        }
        (Op::Merge, Work::Bytes { .. } | Work::Lines { .. }) => runs::merge(&input, out),
        (Op::Merge, Work::JsonArray) => json_array::merge(&input, out),
        (Op::Merge, Work::ImageRows { .. }) => out.put(&[&image_rows::merge(&mut input)?]),
        (Op::Whole | Op::Part { .. }, _) | (_, Work::Service) => {
            Err(Failure::service("this part of the service is the guest's own"))
        }
    }
}
