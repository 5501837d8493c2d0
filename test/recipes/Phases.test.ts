import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Constitution from "../../src/Constitution.ts"
import { Evaluator, rewardOnly } from "../../src/evaluation/Evaluator.ts"
import { Models } from "../../src/Models.ts"
import * as ConstitutionalAi from "../../src/recipes/ConstitutionalAi.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as Overrides from "../../src/recipes/Overrides.ts"
import * as Phases from "../../src/recipes/Phases.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Run from "../../src/recipes/Run.ts"
import type { Settings } from "../../src/recipes/Settings.ts"
import * as Transcript from "../../src/Transcript.ts"
import { workplace } from "../workplace.ts"
import { models, prompts, settings } from "./Fixture.ts"

const sets = PromptSets.fromPrompts(prompts, settings)

const inputs = Effect.map(Constitution.shipped, (constitution) => ({
  model: "m",
  transcript: Transcript.humanAssistant,
  constitution,
  feedback: { assistant: null, critic: null, judge: null },
  evaluator: "e",
  settings,
  sets
}))

/** Another value of the same type for a setting. */
const other = (value: unknown): unknown =>
  typeof value === "number" ? value + 1 : typeof value === "boolean" ? !value : `${String(value)} other`

/** The phases that are done again when a setting is another one. */
const dependents = (inputs: Phases.Inputs, path: string): ReadonlyArray<string> => {
  const changed = Overrides.apply(
    inputs.settings,
    new Map([[path, other(Overrides.flatten(inputs.settings).get(path))]])
  )
  const before = Phases.of(inputs)
  const after = Phases.of({ ...inputs, settings: changed })
  return Phases.names.filter((name) => before[name].fingerprint !== after[name].fingerprint)
}

/** The settings, telling which of them are read. */
const watched = (read: (path: string) => void): Settings =>
  new Proxy(settings, {
    get: (target, group: keyof Settings) => {
      const value = target[group]
      if (typeof value !== "object") {
        read(String(group))
        return value
      }
      return new Proxy(value, {
        get: (inner, key) => {
          read(`${group}.${String(key)}`)
          return inner[key as keyof typeof inner]
        }
      })
    }
  })

/** Decide which prompts there are: the prompts themselves are in the fingerprints. */
const sizes = ["data.limit", "supervised.prompts", "supervised.benign", "preferences.prompts", "preferences.benign"]

describe("phases", () => {
  it.live("read no setting that is not in their fingerprint", () =>
    Effect.gen(function* () {
      const given = yield* inputs
      let phase = ""
      const reads = new Map<string, Set<string>>()
      const spied = watched((path) => {
        if (phase !== "") reads.set(phase, (reads.get(phase) ?? new Set()).add(path))
      })
      const { service } = models()
      const run = yield* Run.open({
        dir: workplace(),
        manifest: Manifest.make({
          ...given,
          charter: "0",
          model: service.description,
          constitutionSource: "",
          promptsSource: ""
        })
      })
      // A phase reads its settings before it begins and in it: what is read after the last one is for the next one.
      const order = [...Phases.names]
      phase = order[0]!
      const spying: Run.Run["Service"] = {
        ...run,
        phase: (name, self) =>
          Effect.ensuring(
            run.phase(name, self),
            Effect.sync(() => (phase = order[order.indexOf(name as Phases.Name) + 1] ?? ""))
          )
      }
      yield* ConstitutionalAi.run(spied, sets).pipe(
        Effect.provideService(Run.Run, spying),
        Effect.provideService(Models, service),
        Effect.provideService(Constitution.Constitution, given.constitution),
        Effect.provideService(Evaluator, rewardOnly)
      )
      assert.deepStrictEqual([...reads.keys()], order)
      for (const [name, paths] of reads) {
        for (const path of paths) {
          if (path === "concurrency") continue
          assert.include(dependents(given, path), name, `${name} reads ${path}`)
        }
      }
    }).pipe(Effect.scoped)
  )

  it.effect("depend on every setting but those that change no result", () =>
    Effect.gen(function* () {
      const given = yield* inputs
      const none = Overrides.paths.filter((path) => dependents(given, path).length === 0)
      const free = Overrides.paths.filter((path) => /^(concurrency$|hosted\.|budget\.)/.test(path))
      assert.deepStrictEqual(none.toSorted(), [...sizes, ...free].toSorted())
      assert.deepStrictEqual(dependents(given, "seed"), [...Phases.names])
      assert.deepStrictEqual(dependents(given, "reinforcement.clip"), ["policy", "evaluation"])
    })
  )

  it.effect("depend on the words of the transcript and on the part of the constitution that they use", () =>
    Effect.gen(function* () {
      const given = yield* inputs
      const before = Phases.of(given)
      const changed = (other: Partial<Phases.Inputs>) => {
        const after = Phases.of({ ...given, ...other })
        return Phases.names.filter((name) => before[name].fingerprint !== after[name].fingerprint)
      }
      const completion = (text: string) => ` ${text}.`
      assert.deepStrictEqual(changed({ transcript: { ...Transcript.humanAssistant, completion } }), [...Phases.names])
      const { constitution } = given
      const comparison = [constitution.comparison[0]] as const
      assert.deepStrictEqual(changed({ constitution: new Constitution.Principles({ ...constitution, comparison }) }), [
        "preferences",
        "reward",
        "policy",
        "evaluation"
      ])
      assert.deepStrictEqual(changed({ feedback: { ...given.feedback, critic: "another" } }), [...Phases.names])
      assert.deepStrictEqual(changed({ evaluator: "another" }), ["evaluation"])
    })
  )
})
