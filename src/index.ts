/**
 * Charter: Constitutional AI end to end in TypeScript.
 *
 * @example
 * import { Critique, Response, Revision } from "charter-ai"
 *
 * prompts.pipe(Response.stage(), Critique.stage(), Revision.stage())
 */

// What is named everywhere.
export * as Constitution from "./Constitution.ts"
export * as Models from "./Models.ts"
export * as Policy from "./Policy.ts"
export * as RewardModel from "./RewardModel.ts"
export * as Sample from "./Sample.ts"
export * as Sampling from "./Sampling.ts"
export * as Stage from "./Stage.ts"
export * as Transcript from "./Transcript.ts"

// The stages.
export * as Critique from "./stages/Critique.ts"
export * as PolicyUpdate from "./stages/PolicyUpdate.ts"
export * as Preference from "./stages/Preference.ts"
export * as Response from "./stages/Response.ts"
export * as Revision from "./stages/Revision.ts"
export * as Reward from "./stages/Reward.ts"
export * as Rollout from "./stages/Rollout.ts"
