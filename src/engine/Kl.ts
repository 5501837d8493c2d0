/**
 * Kl: how far a policy is from its reference, estimated from its own samples, and the coefficient that holds it there.
 *
 * With d = log π(x) − log ρ(x) for x drawn from π, three estimates of KL(π ‖ ρ) (http://joschu.net/blog/kl-approx.html):
 * k1 = d (unbiased, of either sign), k2 = d²/2 (biased, never negative), k3 = e^{−d} − 1 + d (unbiased, never negative).
 */

/** The estimators by name: nats, for one log-ratio d. */
export const estimators = {
  k1: (d: number): number => d,
  k2: (d: number): number => (d * d) / 2,
  k3: (d: number): number => Math.expm1(-d) + d
} as const

/** The name of an estimator. */
export type Estimator = keyof typeof estimators

/** The sum of an estimator over the tokens of an answer, nats. */
export const total = (estimator: Estimator, logprobs: ArrayLike<number>, reference: ArrayLike<number>): number => {
  let sum = 0
  for (let t = 0; t < logprobs.length; t++) sum += estimators[estimator](logprobs[t]! - reference[t]!)
  return sum
}

/** How the KL term's coefficient changes from update to update. */
export type Control =
  | { readonly _tag: "fixed" }
  /** Towards `target` nats per answer, over `horizon` answers (10,000 in the paper). */
  | { readonly _tag: "adaptive"; readonly target: number; readonly horizon: number }

/**
 * The coefficient after `answers` answers whose mean KL was `kl`: the same, or
 * β (1 + clip(KL/target − 1, ±0.2) n/horizon) (Ziegler et al. 2019, section 2.2), where n counts as the horizon at most:
 * a step beyond it would turn the coefficient's sign. A KL that is no number changes nothing.
 */
export const next = (control: Control, beta: number, kl: number, answers: number): number => {
  if (control._tag === "fixed" || Number.isNaN(kl / control.target)) return beta
  const error = Math.min(0.2, Math.max(-0.2, kl / control.target - 1))
  return beta * (1 + error * Math.min(1, answers / control.horizon))
}

/** Nats of a token's log-ratio that may be rounding: log-probabilities are sampled, and computed again, in 32 bits. */
const rounding = 1e-4

/**
 * Nats by which answers, all together, are likelier under the reference by chance. Over what π samples E[ρ/π] ≤ 1, so by
 * Markov's inequality answers that are e^x times as likely under ρ come up with a probability of e^{−x} at most, be they
 * ever so few. A standard error of a handful of answers is no such bound.
 */
const chance = Math.log(20)

/**
 * Why the mean of k1 over answers is below zero, which a KL cannot be, or no number; undefined when it is neither, or
 * when so small a mean is what chance (once in 20, and within two standard errors) or rounding gives.
 *
 * @param k1 the k1 sums, one an answer
 * @param tokens of an answer, on the mean
 * @param mismatch the largest difference between a sampled token's log-probability and that of the model that learns
 */
export const diagnose = (k1: ReadonlyArray<number>, tokens: number, mismatch: number): string | undefined => {
  const n = k1.length
  const mean = k1.reduce((a, b) => a + b, 0) / Math.max(1, n)
  if (!Number.isFinite(mean)) {
    return `The KL to the reference is ${mean}: a log-probability under the policy or the reference is not finite, and nothing can be learnt from such an answer; lower the learning rate.`
  }
  if (n === 0 || -mean <= rounding * tokens || -mean * n <= chance) return undefined
  const deviation = Math.sqrt(k1.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, n - 1))
  if (-mean <= (2 * deviation) / Math.sqrt(n)) return undefined
  const said = `The KL to the reference is ${mean.toPrecision(3)} nats per answer, which no KL is`
  return mismatch > 0.01
    ? `${said}: the answers were not sampled from the policy that learns (their log-probabilities differ by up to ${mismatch.toFixed(3)}); sample with the same adapter, weights and precision.`
    : `${said}: the answers are likelier under the reference than under the policy, as when they are sampled at a low temperature, cut by top-k or top-p, or chosen afterwards; sample at temperature 1 and keep every answer.`
}
