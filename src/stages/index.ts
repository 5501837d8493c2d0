/** The stages of both phases. */
export * as Critique from "./Critique.ts"
export * as PolicyUpdate from "./PolicyUpdate.ts"
export * as Preference from "./Preference.ts"
export * as Response from "./Response.ts"
export * as Revision from "./Revision.ts"
export * as Reward from "./Reward.ts"
export * as Rollout from "./Rollout.ts"
