/**
 * Manifest: what determines a run, as it stands in `manifest.json`.
 */
import { Schema } from "effect"
import * as Constitution from "../Constitution.ts"
import type { Models } from "../Models.ts"
import * as Overrides from "./Overrides.ts"
import * as Phases from "./Phases.ts"
import { Settings } from "./Settings.ts"

/** A text or a file's records, by where it comes from and hash. */
const Source = Schema.Struct({ source: Schema.String, hash: Schema.String })

/** What determines a run. */
export const Manifest = Schema.Struct({
  /** The layout of the folder; a Charter that lays it out otherwise has another number. */
  format: Schema.Literal(2),
  /** The version of Charter that began the run. */
  charter: Schema.String,
  model: Schema.Struct({
    name: Schema.String,
    family: Schema.String,
    parameters: Schema.Number,
    fingerprint: Schema.String,
    revision: Schema.optionalKey(Schema.String)
  }),
  transcript: Source,
  constitution: Source,
  prompts: Source,
  /** The models in place of the base; null stands for the base. */
  feedback: Schema.Struct({
    assistant: Schema.NullOr(Schema.String),
    critic: Schema.NullOr(Schema.String),
    judge: Schema.NullOr(Schema.String)
  }),
  evaluator: Schema.String,
  seed: Schema.Number,
  settings: Settings,
  phases: Schema.Record(Schema.String, Phases.Phase)
})
export type Manifest = typeof Manifest.Type

/** What a manifest is made of. */
export interface Inputs extends Omit<Phases.Inputs, "model"> {
  readonly charter: string
  readonly model: Models["Service"]["description"]
  /** Where the constitution comes from, in words. */
  readonly constitutionSource: string
  /** Where the prompts come from, in words. */
  readonly promptsSource: string
}

/** The manifest of a run. */
export const make = (inputs: Inputs): Manifest => {
  const { charter, model, transcript, feedback, evaluator, settings, sets } = inputs
  const constitution = Schema.encodeSync(Constitution.Principles)(inputs.constitution)
  return {
    format: 2,
    charter,
    model,
    transcript: { source: transcript.name, hash: Phases.hashOfTranscript(transcript) },
    constitution: { source: inputs.constitutionSource, hash: Phases.hash(constitution) },
    prompts: { source: inputs.promptsSource, hash: Phases.hash(sets) },
    feedback,
    evaluator,
    seed: settings.seed,
    settings,
    phases: Phases.of({ ...inputs, model: model.fingerprint })
  }
}

/** Settings on which nothing that a run makes depends: what a judge's votes change is in the judge's name. */
const changesNothing = (path: string): boolean => /^(concurrency$|hosted\.|budget\.)/.test(path)

/** What two runs differ in, in words: `supervised.rounds is 4 there and 2 now`. */
export const differences = (before: Manifest, now: Manifest): ReadonlyArray<string> => {
  const there = Overrides.flatten(before.settings)
  const settings = [...Overrides.flatten(now.settings)]
    .filter(([path, value]) => !changesNothing(path) && there.get(path) !== value)
    .map(([path, value]) => `${path} is ${String(there.get(path))} there and ${String(value)} now`)
  const other = (what: string, a: string | null, b: string | null): readonly [boolean, string] => [
    a !== b,
    `the ${what} is ${a ?? "the base"} there and ${b ?? "the base"} now`
  ]
  const parts: ReadonlyArray<readonly [differs: boolean, words: string]> = [
    [
      before.model.fingerprint !== now.model.fingerprint,
      before.model.name === now.model.name
        ? `the model ${now.model.name} has other weights, another configuration or another tokenizer than there`
        : `the model is ${before.model.name} there and ${now.model.name} now`
    ],
    other("assistant", before.feedback.assistant, now.feedback.assistant),
    other("critic", before.feedback.critic, now.feedback.critic),
    other("judge", before.feedback.judge, now.feedback.judge),
    [
      before.transcript.hash !== now.transcript.hash,
      before.transcript.source === now.transcript.source
        ? `the transcript ${now.transcript.source} has other words than there`
        : `the transcript is ${before.transcript.source} there and ${now.transcript.source} now`
    ],
    other("evaluator", before.evaluator, now.evaluator),
    [
      before.constitution.hash !== now.constitution.hash,
      `the constitution has other words than ${before.constitution.source} had there`
    ],
    [before.prompts.hash !== now.prompts.hash, `the prompts are others than those of ${before.prompts.source} there`]
  ]
  // Other prompts often mean other sizes; the cause says more than its many effects.
  return [...parts.filter(([differs]) => differs).map(([, words]) => words), ...settings]
}
