/**
 * Manifest: what determines a run. A folder is continued only by a run with the same one.
 */
import { createHash } from "node:crypto"
import { Schema } from "effect"
import * as Overrides from "./Overrides.ts"
import { Settings } from "./Settings.ts"

/** A text or a file's records, by name and hash. */
const Source = Schema.Struct({ source: Schema.String, hash: Schema.String })

/** What determines a run, as it stands in `manifest.json`. */
export const Manifest = Schema.Struct({
  /** The layout of the folder; a later Charter that lays it out otherwise has a higher number. */
  format: Schema.Literal(1),
  /** The version of Charter that began the run. */
  charter: Schema.String,
  created: Schema.String,
  model: Schema.Struct({
    name: Schema.String,
    family: Schema.String,
    parameters: Schema.Number,
    fingerprint: Schema.String
  }),
  constitution: Source,
  prompts: Source,
  seed: Schema.Number,
  settings: Settings
})
export type Manifest = typeof Manifest.Type

/** The hash of a value, as it stands in JSON. */
export const hash = (value: unknown): string =>
  createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 32)

/** What two runs differ in, in words, the settings first: `supervised.rounds is 4 there and 2 now`. */
export const differences = (before: Manifest, now: Manifest): ReadonlyArray<string> => {
  const there = Overrides.flatten(before.settings)
  const settings = [...Overrides.flatten(now.settings)]
    .filter(([path, value]) => there.get(path) !== value)
    .map(([path, value]) => `${path} is ${String(there.get(path))} there and ${String(value)} now`)
  const parts: ReadonlyArray<readonly [differs: boolean, words: string]> = [
    [
      before.model.fingerprint !== now.model.fingerprint,
      before.model.name === now.model.name
        ? `the model ${now.model.name} has other weights than there`
        : `the model is ${before.model.name} there and ${now.model.name} now`
    ],
    [
      before.constitution.hash !== now.constitution.hash,
      `the constitution has other words than ${before.constitution.source} had there`
    ],
    [before.prompts.hash !== now.prompts.hash, `the prompts are others than those of ${before.prompts.source} there`]
  ]
  // Other prompts often mean other sizes; the cause says more than its many effects.
  return [...parts.filter(([differs]) => differs).map(([, words]) => words), ...settings]
}
