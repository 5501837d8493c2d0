/**
 * Constitution: the principles of both phases, and which of them is put to a sample.
 *
 * A revision principle is a pair of requests (criticise, then rewrite); a comparison principle is what the judge is
 * asked about two answers. One principle is drawn for each sample and round, independently, so repeats happen
 * (Bai et al. 2022, sections 3.1 and 4.1).
 *
 * @example
 * prompts.pipe(Response.stage(), Critique.stage(), Revision.stage(), Stream.provide(Constitution.layerFile("mine.yaml")))
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Context, Effect, FileSystem, Layer, Path, Schema } from "effect"
import * as Format from "./ConstitutionFormat.ts"
import * as FileText from "./ConstitutionText.ts"
import { Message } from "./Policy.ts"
import * as Random from "./Random.ts"
import type { Kind } from "./Sample.ts"

const Weight = Schema.Number.check(Schema.isGreaterThan(0), Schema.isFinite())
const Text = Schema.String.check(Schema.isPattern(/\S/, { expected: "a text that is not blank" }))

/** A principle of the supervised phase. */
export const RevisionPrinciple = Schema.Struct({
  id: Text,
  /** The critique request. */
  critique: Text,
  /** The revision request. */
  revision: Text,
  /** How often it is drawn against the others; 1 if it is not given. */
  weight: Schema.optionalKey(Weight)
})
export type RevisionPrinciple = typeof RevisionPrinciple.Type

/** A principle of the reinforcement phase: what the judge is asked. */
export const ComparisonPrinciple = Schema.Struct({
  id: Text,
  principle: Text,
  /** How often it is drawn against the others; 1 if it is not given. */
  weight: Schema.optionalKey(Weight)
})
export type ComparisonPrinciple = typeof ComparisonPrinciple.Type

/** A prompt with a better and a worse answer. */
export const ComparisonExample = Schema.Struct({
  /** The conversation, or the human's only turn. */
  prompt: Schema.Union([Text, Schema.NonEmptyArray(Message)]),
  chosen: Text,
  rejected: Text
})
export type ComparisonExample = typeof ComparisonExample.Type

/** Worked examples that precede what a model is asked. */
export const FewShot = Schema.Struct({
  /** Before the conversation of a critique and of a revision, as a literal transcript. */
  revision: Schema.optionalKey(Schema.String),
  /** Before a comparison: examples that the transcript puts into its own words, or a literal transcript. */
  comparison: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(ComparisonExample)]))
})
export type FewShot = typeof FewShot.Type

/** The principles of both phases. */
export class Principles extends Schema.Class<Principles>("charter/Principles")({
  name: Schema.String,
  revision: Schema.NonEmptyArray(RevisionPrinciple),
  comparison: Schema.NonEmptyArray(ComparisonPrinciple),
  /** Comparison principles for benign prompts; where there are none, `comparison` serves them too. */
  helpfulness: Schema.Array(ComparisonPrinciple),
  fewShot: Schema.optionalKey(FewShot)
}) {}

/** The principles in force. */
export class Constitution extends Context.Service<Constitution, Principles>()("charter/Constitution") {}

/** A constitution that cannot be used: which file, which line where that is known, and what is wrong there. */
export class ConstitutionError extends Schema.TaggedError<ConstitutionError>()("ConstitutionError", {
  file: Schema.String,
  line: Schema.optional(Schema.Number),
  fact: Schema.String
}) {
  override get message(): string {
    return `${this.file}${this.line === undefined ? "" : `:${this.line}`}: ${this.fact}`
  }
}

const assets = fileURLToPath(new URL("../assets/constitution.yaml", import.meta.url))

const decode = (parsed: Format.Parsed, file: string): Effect.Effect<Principles, ConstitutionError> =>
  Effect.gen(function* () {
    const missing = ["revision", "comparison", "helpfulness"].some((key) => !(key in parsed.value))
    // Half a constitution is completed from the shipped one; the shipped one is whole.
    const base = missing && file !== assets ? yield* shipped : undefined
    const filled = { name: parsed.name, ...(base && Format.encode(base)), ...parsed.value }
    return yield* Schema.decodeUnknownEffect(Principles)(filled).pipe(
      Effect.mapError((error) => {
        const { path, fact } = Format.firstIssue(error)
        return new ConstitutionError({ file, line: parsed.lineOf(path), fact })
      })
    )
  }).pipe(Effect.tap((principles) => unique(principles, parsed, file)))

const unique = (principles: Principles, parsed: Format.Parsed, file: string) =>
  Effect.gen(function* () {
    for (const key of ["revision", "comparison", "helpfulness"] as const) {
      const seen = new Set<string>()
      for (const [i, { id }] of principles[key].entries()) {
        if (seen.has(id)) {
          const fact = `${key} principle id "${id}" is used twice; give each principle an id of its own`
          return yield* new ConstitutionError({ file, line: parsed.lineOf([key, i]), fact })
        }
        seen.add(id)
      }
    }
  })

const refused = ({ line, fact }: Format.Bad, file: string): Effect.Effect<never, ConstitutionError> =>
  Effect.fail(new ConstitutionError({ file, line, fact }))

/**
 * A constitution from the text of a file: Charter's own YAML or JSON, the published files of the paper, or plain text
 * with one principle a line. What a file does not have is taken from {@link shipped}.
 */
export const parse = (text: string, file: string): Effect.Effect<Principles, ConstitutionError> =>
  Effect.suspend(() => {
    const parsed = Format.parse(text, file)
    return parsed._tag === "Bad" ? refused(parsed, file) : decode(parsed, file)
  })

/** The constitution that ships with Charter: our own text. */
export const shipped: Effect.Effect<Principles, ConstitutionError> = Effect.suspend(() =>
  parse(readFileSync(assets, "utf8"), assets)
)

/** A constitution from a file, packed (`.gz`, `.zst`) or not, or from a folder that holds `constitution.yaml` or the published files. */
export const load = Effect.fn("Constitution.load")(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const { basename, join } = yield* Path.Path
  const unreadable = () => new ConstitutionError({ file: path, fact: "cannot be read; check the path" })
  const read = Effect.fnUntraced(function* (file: string) {
    const text = FileText.decode(yield* fs.readFile(file).pipe(Effect.mapError(unreadable)))
    return yield* typeof text === "string" ? parse(text, file) : refused(text, file)
  })
  const { type } = yield* fs.stat(path).pipe(Effect.mapError(unreadable))
  if (type !== "Directory") return yield* read(path)

  const entries = yield* fs.readDirectory(path).pipe(Effect.mapError(unreadable))
  const own = Format.ownFiles.find((name) => entries.includes(name))
  if (own !== undefined) return yield* read(join(path, own))
  const published = Format.publishedFiles.filter(({ name }) => entries.includes(name))
  if (published.length === 0) {
    const names = [...Format.ownFiles, ...Format.publishedFiles.map(({ name }) => name)].join(", ")
    return yield* new ConstitutionError({ file: path, fact: `the folder holds none of ${names}` })
  }
  let whole = new Principles({ ...(yield* shipped), name: basename(path) })
  for (const { name, part } of published) {
    const found = yield* read(join(path, name))
    whole = new Principles({
      ...whole,
      ...(part === "fewShot" ? { fewShot: { ...whole.fewShot, ...found.fewShot } } : { [part]: found[part] })
    })
  }
  return whole
})

/** The given principles. */
export const layer = (principles: Principles): Layer.Layer<Constitution> => Layer.succeed(Constitution, principles)

/** The principles of a file or folder. */
export const layerFile = (path: string) => Layer.effect(Constitution, load(path))

/** The principles that ship with Charter. */
export const layerShipped: Layer.Layer<Constitution, ConstitutionError> = Layer.effect(Constitution, shipped)

/** One of the items, drawn by weight; a function of the keys alone. */
const draw = <A extends { readonly weight?: number }>(items: readonly [A, ...Array<A>], ...keys: Array<Random.Key>) => {
  const total = items.reduce((sum, item) => sum + (item.weight ?? 1), 0)
  let left = Random.uniform(...keys) * total
  return items.find((item) => (left -= item.weight ?? 1) < 0) ?? items[items.length - 1]!
}

/** The revision principle for one round of one sample. */
export const drawRevision = (principles: Principles, seed: number, sample: string, round: number): RevisionPrinciple =>
  draw(principles.revision, seed, "revision principle", sample, round)

/** Those that are compared under: benign prompts for helpfulness, if there is anything to compare it under. */
const comparisonPrinciples = (principles: Principles, kind: Kind): Principles["comparison"] => {
  const [first, ...rest] = kind === "benign" ? principles.helpfulness : []
  return first === undefined ? principles.comparison : [first, ...rest]
}

/** The comparison principle for one comparison: benign prompts are compared for helpfulness. */
export const drawComparison = (principles: Principles, kind: Kind, seed: number, sample: string): ComparisonPrinciple =>
  draw(comparisonPrinciples(principles, kind), seed, "comparison principle", sample)

/**
 * `k` different comparison principles for one comparison, drawn by weight one after the other; all of them where there
 * are no more than `k`. The first is that of {@link drawComparison}.
 */
export const drawComparisons = (
  principles: Principles,
  kind: Kind,
  seed: number,
  sample: string,
  k: number
): readonly [ComparisonPrinciple, ...Array<ComparisonPrinciple>] => {
  const first = drawComparison(principles, kind, seed, sample)
  const drawn: [ComparisonPrinciple, ...Array<ComparisonPrinciple>] = [first]
  let [next, ...rest] = comparisonPrinciples(principles, kind).filter((item) => item !== first)
  while (next !== undefined && drawn.length < k) {
    const one = draw([next, ...rest], seed, "comparison principle", sample, drawn.length)
    drawn.push(one)
    ;[next, ...rest] = [next, ...rest].filter((item) => item !== one)
  }
  return drawn
}
