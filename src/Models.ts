/**
 * Models: where a recipe gets the models of the method from, all over one base checkpoint.
 *
 * They differ only in the adapter that is fed to the base, so one base in memory serves the helpful-only assistant,
 * the supervised policy, the reference, the reward model and the reinforced policy.
 */
import { Context } from "effect"
import type { Effect } from "effect"
import type { Policy, PolicyError } from "./Policy.ts"
import type { RewardModel, RewardModelError } from "./RewardModel.ts"

/** What an adapter starts from: nothing learnt yet, or a PEFT folder on the same base. */
export type AdapterSource =
  | { readonly _tag: "fresh"; readonly rank: number; readonly alpha: number; readonly seed: number }
  | { readonly _tag: "folder"; readonly dir: string; readonly seed: number }

/** The models of one base checkpoint. */
export class Models extends Context.Service<
  Models,
  {
    /** The checkpoint as it is: the helpful-only assistant, the critic, the reviser and the judge. */
    readonly base: Policy["Service"]
    /** Whether the base has a chat template (then conversations are put to it as messages). */
    readonly chat: boolean
    /** The number of parameters, the family and the folder, for the manifest and the summary. */
    readonly description: {
      readonly name: string
      readonly family: string
      readonly parameters: number
      /** Another one where the weights are others, or how text becomes tokens. */
      readonly fingerprint: string
      /** The commit, of a model of the hub. */
      readonly revision?: string
    }
    /**
     * A policy with an adapter of its own, in place of any of the same name. Its reference for the KL term is the
     * adapter as it was at the start.
     */
    readonly policy: (name: string, from: AdapterSource) => Effect.Effect<Policy["Service"], PolicyError>
    /**
     * A reward model with an adapter of its own and a score head (made anew when the folder has none), in place of any
     * of the same name.
     */
    readonly rewardModel: (name: string, from: AdapterSource) => Effect.Effect<RewardModel["Service"], RewardModelError>
  }
>()("charter/Models") {}
