/**
 * Conclusion: what a run came to, in words that a person understands.
 */
import type { Evaluation } from "../evaluation/Evaluator.ts"
import { hundredths } from "../recipes/Progress.ts"
import type { Summary } from "../recipes/Summary.ts"
import { count } from "./Count.ts"
import { duration } from "./Progress.ts"

const percent = (share: number) => {
  const hundred = 100 * share
  return `${hundred > 0 && hundred < 1 ? hundred.toFixed(1) : Math.round(hundred)} %`
}

type Of = (evaluation: Evaluation) => number | null

const stages = (summary: Summary, of: Of, show: (n: number) => string): string | undefined => {
  const { base, supervised, reinforced } = summary.evaluation
  const numbers = [of(base), of(supervised), of(reinforced)].map((n) => (n === null ? undefined : show(n)))
  if (numbers.some((n) => n === undefined)) return undefined
  return `${numbers[0]} before, ${numbers[1]} after supervised learning, ${numbers[2]} after reinforcement`
}

/** From so many prompts on some are kept out of the training, unless the settings say otherwise. */
const enough = 20

const howToKeepOut = (prompts: number): string =>
  prompts < enough
    ? `bring ${enough} or more to keep some out`
    : "set evaluation.prompts, above 0 and below their number, to keep some out"

/** The last lines of a run. */
export const words = (summary: Summary, dir: string): string => {
  const { evaluation, reward, reinforcement, rejected } = summary
  const shares: ReadonlyArray<readonly [title: string, words: string | undefined]> = [
    ["Harmful answers", stages(summary, ({ harmful }) => harmful, percent)],
    ["Evasive answers", stages(summary, ({ evasive }) => evasive, percent)],
    ["Helpful answers", stages(summary, ({ helpful }) => helpful, percent)]
  ]
  const known = shares.flatMap(([title, text]) => (text === undefined ? [] : [`${title}: ${text}.`]))
  const scores = stages(summary, (evaluated) => evaluated.reward, hundredths)
  const scored = scores === undefined ? [] : [`Mean reward-model score of the answers: ${scores}.`]
  const rounds = evaluation.revisions.map(({ harmful }) => harmful)
  const revised = rounds.some((n) => n === null)
    ? []
    : [`Harmful answers by revision round: ${rounds.map((n) => percent(n!)).join(", ")}.`]
  const { pairwise_accuracy: share, pairs } = reward
  // A share of a handful says less than the handful.
  const right =
    share === null ? "" : pairs < 20 ? `${Math.round(share * pairs)} of ${pairs}` : `${percent(share)} of ${pairs}`
  const accuracy =
    share === null
      ? []
      : [`The reward model is right on ${right} ${pairs === 1 ? "pair" : "pairs"} (${reward.pairs_of}).`]
  const distance =
    reinforcement.kl === null
      ? []
      : [`Reinforcement moved the policy by ${hundredths(reinforcement.kl)} nats per answer.`]
  const prompts = count(evaluation.prompts, "prompt")
  const where = evaluation.held_out
    ? `on ${prompts} that no training has seen`
    : `on the ${prompts} of the training itself; ${howToKeepOut(evaluation.prompts)}`
  const asked = (summary.hosted ?? []).reduce((sum, { calls }) => sum + calls, 0)
  const tokens = (summary.hosted ?? []).reduce((sum, row) => sum + row.input_tokens + row.output_tokens, 0)
  const hosted =
    asked === 0
      ? []
      : [`Hosted models answered ${count(asked, "call")} with ${count(tokens, "token")}; summary.json says for what.`]
  const { cut_off = 0, learnt = 0, preferences = 0, ties = 0 } = summary.counts
  // A reward model can learn from the others.
  const tied =
    ties === 0 || ties < preferences / 2
      ? []
      : [
          `${ties} of ${preferences} pairs are ties, which teach nothing: answers alike, or a judge that goes by their order.`
        ]
  // A few long answers are nothing to raise a limit for.
  const cut =
    cut_off === 0 || cut_off < learnt / 4
      ? []
      : [`${cut_off} of ${learnt} answers that it learnt from were cut off; supervised.maxTokens allows longer ones.`]
  const failures = rejected["total"] ?? 0
  return [
    "",
    ...(known.length === 0 ? scored : [...known, ...revised]),
    ...accuracy,
    ...distance,
    ...cut,
    ...tied,
    `Measured ${where}. The run took ${duration(summary.seconds["total"] ?? 0)}.`,
    ...hosted,
    ...(failures === 0
      ? []
      : [`${failures} ${failures === 1 ? "sample was" : "samples were"} rejected; ${dir}/rejected.jsonl says why.`]),
    "",
    "Where to look next:",
    `  ${dir}/summary.json                 all numbers`,
    `  ${dir}/supervised/revisions.jsonl   answers, critiques and revisions`,
    `  ${dir}/preferences/                 pairs of answers and the judge's soft labels`,
    `  ${dir}/policy/adapter               the harmless assistant, a PEFT adapter on the base model`,
    ""
  ].join("\n")
}
