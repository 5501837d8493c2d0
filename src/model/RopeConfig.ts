/**
 * RopeConfig: what a `config.json` says about rotary positions.
 *
 * Up to transformers 4 the keys were `rope_theta` and, for other kinds than the default, `rope_scaling`; since 5 they
 * are together in `rope_parameters`. Defaults and order of preference are those of transformers.
 */
import { Result, Schema } from "effect"
import { quoted } from "./Quoted.ts"
import type { Rope } from "./Rope.ts"

const Positive = Schema.Finite.check(Schema.isGreaterThan(0))
const Positions = Schema.Int.check(Schema.isGreaterThan(1), Schema.isLessThanOrEqualTo(0x7fffffff))
const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const keys = {
  rope_type: maybe(Schema.String),
  type: maybe(Schema.String),
  rope_theta: maybe(Positive),
  partial_rotary_factor: maybe(Positive),
  factor: maybe(Positive),
  original_max_position_embeddings: maybe(Positions),
  low_freq_factor: maybe(Positive),
  high_freq_factor: maybe(Positive),
  attention_factor: maybe(Positive),
  beta_fast: maybe(Positive),
  beta_slow: maybe(Positive),
  mscale: maybe(Schema.Finite),
  mscale_all_dim: maybe(Schema.Finite),
  truncate: maybe(Schema.Boolean),
  short_factor: maybe(Schema.Array(Positive))
}

/** The keys of one kind of layers. */
export const Json = Schema.Struct(keys)
export type Keys = typeof Json.Type

/** The keys, or those of each kind of layers. */
export const Layered = Schema.Struct({ ...keys, full_attention: maybe(Json), sliding_attention: maybe(Json) })

/** What stands beside the keys in the file. */
export interface Context {
  /** The kinds that the family has, by the names of `rope_type`. */
  readonly kinds: ReadonlyArray<string>
  readonly theta: number
  readonly headDim: number
  readonly maxPositions: number
  /** `original_max_position_embeddings` of the file itself, which goes before the one among the keys. */
  readonly originalPositions: number | undefined
}

/** YaRN's 0.1 m ln(s) + 1. */
const temperature = (factor: number, m = 1): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1)

/** Reads the keys of one kind of layers; a failure is the end of a sentence that starts with the file's name. */
export const fromJson = (json: Keys, context: Context): Result.Result<Rope, string> => {
  const named = json.rope_type ?? json.type ?? "default"
  if (!context.kinds.includes(named)) {
    return Result.fail(
      `asks for the rotary embedding ${quoted(named)}; Charter knows ${context.kinds.join(", ")} for this family`
    )
  }
  // Phi-3's first files call it by these names.
  const kind = context.kinds.includes("longrope") && (named === "su" || named === "yarn") ? "longrope" : named
  const dims = Math.trunc(context.headDim * (json.partial_rotary_factor ?? 1))
  if (dims < 2 || dims % 2 !== 0 || dims > context.headDim) {
    return Result.fail(
      `rotates ${dims} of the ${context.headDim} dimensions of a head; Charter rotates an even number of them, so check head_dim and partial_rotary_factor`
    )
  }
  const base = { theta: json.rope_theta ?? context.theta, dims }
  const originalPositions = context.originalPositions ?? json.original_max_position_embeddings ?? context.maxPositions
  const missing = (key: string) =>
    Result.fail(`asks for the rotary embedding ${kind} without ${key}; take the file from the model's own folder`)
  /** YaRN and LongRoPE divide by logarithms, which broken numbers make zero. */
  const finite = <A extends Rope & { readonly attentionFactor: number }>(rope: A): Result.Result<A, string> =>
    rope.attentionFactor > 0 && Number.isFinite(rope.attentionFactor) && (rope.kind !== "yarn" || rope.theta > 1)
      ? Result.succeed(rope)
      : Result.fail(
          `has numbers of which the rotary embedding ${kind} makes no angles; take the file from the model's own folder`
        )

  switch (kind) {
    case "linear":
      return json.factor == null ? missing("factor") : Result.succeed({ kind, ...base, factor: json.factor })
    case "llama3": {
      const { factor, high_freq_factor: highFreqFactor, low_freq_factor: lowFreqFactor } = json
      if (factor == null) return missing("factor")
      if (lowFreqFactor == null) return missing("low_freq_factor")
      if (highFreqFactor == null) return missing("high_freq_factor")
      if (highFreqFactor <= lowFreqFactor) {
        return Result.fail(
          `has a high_freq_factor of ${highFreqFactor} and a low_freq_factor of ${lowFreqFactor}; the first must be the larger one`
        )
      }
      return Result.succeed({ kind, ...base, factor, lowFreqFactor, highFreqFactor, originalPositions })
    }
    case "yarn": {
      const factor = json.factor ?? context.maxPositions / originalPositions
      const [m, all] = [json.mscale ?? 0, json.mscale_all_dim ?? 0]
      const attentionFactor =
        json.attention_factor ??
        (m !== 0 && all !== 0 ? temperature(factor, m) / temperature(factor, all) : temperature(factor))
      return finite({
        kind,
        ...base,
        factor,
        attentionFactor,
        betaFast: json.beta_fast ?? 32,
        betaSlow: json.beta_slow ?? 1,
        originalPositions,
        // A missing key means yes, but a null is no, as in Python.
        truncate: json.truncate === undefined || json.truncate === true
      })
    }
    case "longrope": {
      const shortFactors = json.short_factor
      if (shortFactors == null) return missing("short_factor")
      if (shortFactors.length !== dims / 2) {
        return Result.fail(
          `has ${shortFactors.length} numbers in short_factor; ${dims} rotated dimensions need ${dims / 2}`
        )
      }
      const factor = json.factor ?? context.maxPositions / originalPositions
      const attentionFactor =
        json.attention_factor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions)))
      return finite({ kind, ...base, shortFactors, attentionFactor })
    }
    default:
      return Result.succeed({ kind: "default", ...base })
  }
}
