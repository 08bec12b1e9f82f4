//! Which operators make, move and show floats.

use wasmparser::Operator;

use super::flow::{Node, Rule};

/// What an operator does with the floats among its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Takes nothing, and its result is this.
    Constant(Node),
    /// Takes one operand of any kind, and its result is this.
    Convert(Node),
    /// Takes this many floats, and its result follows by the rule.
    Make(usize, Rule),
    /// Shows the bits of its last operands, this many; takes that many, and its result has a node of the rule.
    See(usize, Rule),
    /// Shows the bits of its last operand; else as any other operator.
    Show,
    /// Gives one of its two operands before the last.
    Select,
    /// None of its results can be a float whose bits differ.
    Other,
}

/// Arithmetic makes NaN, whose bits then differ; signs are bits, so operators on the sign show what they change.
pub(super) fn effect(operator: &Operator<'_>) -> Effect {
    use Effect as E;
    use Operator as O;
    match operator {
        O::F32Const { value } => constant(f64::from(f32::from_bits(value.bits()))),
        O::F64Const { value } => constant(f64::from_bits(value.bits())),
        O::F32ConvertI32S | O::F32ConvertI32U | O::F32ConvertI64S | O::F32ConvertI64U => E::Convert(Node::FINITE),
        O::F64ConvertI32S | O::F64ConvertI32U | O::F64ConvertI64S | O::F64ConvertI64U => E::Convert(Node::FINITE),
        O::F32Add | O::F32Sub | O::F32Mul | O::F64Add | O::F64Sub | O::F64Mul => E::Make(2, Rule::Sum),
        O::F32Div | O::F64Div => E::Make(2, Rule::Is(super::flow::Level::Differs)),
        O::F32Sqrt | O::F64Sqrt => E::Make(1, Rule::Is(super::flow::Level::Differs)),
        O::F32Min | O::F32Max | O::F64Min | O::F64Max => E::Make(2, Rule::Round),
        O::F32Ceil | O::F32Floor | O::F32Trunc | O::F32Nearest | O::F64PromoteF32 => E::Make(1, Rule::Round),
        O::F64Ceil | O::F64Floor | O::F64Trunc | O::F64Nearest => E::Make(1, Rule::Round),
        O::F32DemoteF64 => E::Make(1, Rule::Demote),
        // The canonical NaN is positive: taking a NaN's sign away first or making it canonical first is the same.
        O::F32Abs | O::F64Abs => E::Make(1, Rule::Join),
        O::F32Neg | O::F64Neg => E::See(1, Rule::Canonical),
        O::F32Copysign | O::F64Copysign => E::See(2, Rule::Canonical),
        O::F32Store { .. } | O::F64Store { .. } | O::GlobalSet { .. } => E::Show,
        O::I32ReinterpretF32 | O::I64ReinterpretF64 => E::Show,
        O::F32x4Splat | O::F64x2Splat | O::F32x4ReplaceLane { .. } | O::F64x2ReplaceLane { .. } => E::Show,
        O::Select | O::TypedSelect { .. } => E::Select,
        _ => E::Other,
    }
}

fn constant(value: f64) -> Effect {
    Effect::Constant(match value {
        value if value.is_finite() => Node::FINITE,
        value if value.is_nan() => Node::SAME,
        _ => Node::NUMBER,
    })
}

/// The lanes of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    F32x4,
    F64x2,
}

/// The lanes of a vector operator's result that may be NaN with bits that differ. Such a result is made canonical at
/// once. Pseudo-minimum and -maximum choose among their operands, and signs are bits: these add no NaN.
pub(super) fn vector(operator: &Operator<'_>) -> Option<Lanes> {
    use Operator as O;
    Some(match operator {
        O::F32x4Ceil | O::F32x4Floor | O::F32x4Trunc | O::F32x4Nearest | O::F32x4Sqrt => Lanes::F32x4,
        O::F32x4Add | O::F32x4Sub | O::F32x4Mul | O::F32x4Div | O::F32x4Min | O::F32x4Max => Lanes::F32x4,
        O::F32x4DemoteF64x2Zero => Lanes::F32x4,
        O::F64x2Ceil | O::F64x2Floor | O::F64x2Trunc | O::F64x2Nearest | O::F64x2Sqrt => Lanes::F64x2,
        O::F64x2Add | O::F64x2Sub | O::F64x2Mul | O::F64x2Div | O::F64x2Min | O::F64x2Max => Lanes::F64x2,
        O::F64x2PromoteLowF32x4 => Lanes::F64x2,
        _ => return None,
    })
}
