//! The constants of the default policy by their names.

use aosk_context::Weights;

/// A constant of the default policy.
pub struct Field {
    pub name: &'static str,
    /// The values that make sense.
    pub least: f64,
    pub most: f64,
    pub of: fn(&mut Weights) -> &mut f64,
}

macro_rules! field {
    ($($path:ident).+, $least:expr, $most:expr) => {
        Field {
            name: stringify!($($path).+),
            least: $least,
            most: $most,
            of: |weights| &mut weights.$($path).+,
        }
    };
}

pub const FIELDS: [Field; 14] = [
    field!(rewrites_per_fault, 0.0, 100.0),
    field!(fault_room, 1.0, 1e9),
    field!(horizon, 0.01, 100.0),
    field!(empty_room, 0.0, 1_000.0),
    field!(rent_growth, 0.0, 4.0),
    field!(cold, 0.1, 0.99),
    field!(deepest, 0.05, 0.99),
    field!(hazard.prior, 0.01, 10.0),
    field!(hazard.again, 0.0, 4.0),
    field!(hazard.fall, 0.0, 4.0),
    field!(hazard.youth, 0.01, 100.0),
    field!(hazard.tool, 0.01, 100.0),
    field!(hazard.size, -4.0, 4.0),
    field!(hazard.message_size, -4.0, 4.0),
];

/// The default constants with those that `changes` name put in their place: `NAME=VALUE` each.
pub fn parse(changes: &[String]) -> Result<Weights, String> {
    let mut weights = Weights::DEFAULT;
    for change in changes {
        let named = change.split_once('=').and_then(|(name, value)| {
            let field = FIELDS.iter().find(|field| field.name == name)?;
            let value: f64 = value.parse().ok()?;
            (field.least..=field.most).contains(&value).then_some((field, value))
        });
        let Some((field, value)) = named else {
            let known: Vec<String> = FIELDS
                .iter()
                .map(|field| format!("{} from {} to {}", field.name, field.least, field.most))
                .collect();
            return Err(format!("{change:?} sets no weight; there are: {}", known.join(", ")));
        };
        *(field.of)(&mut weights) = value;
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_set_by_its_name_and_within_its_bounds() {
        let set = |text: &str| parse(&[text.to_owned()]);
        let weights = set("hazard.fall=0").expect("the least");
        assert_eq!(weights.hazard.fall.to_bits(), 0.0_f64.to_bits());
        assert_eq!(parse(&[]).expect("none"), Weights::DEFAULT);
        assert_eq!(weights.horizon.to_bits(), Weights::DEFAULT.horizon.to_bits());
        assert!(set("hazard.fall=4").is_ok());
        for wrong in ["hazard.fall=4.1", "hazard.fall=-0.1", "fall=1", "horizon", "horizon=NaN"] {
            assert!(set(wrong).expect_err(wrong).contains("hazard.fall from 0 to 4"), "{wrong}");
        }
    }
}
