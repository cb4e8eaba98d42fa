/** What the session machine is told, and what it wants the broker to hear. */

export type Priority = "interactive" | "normal" | "background" | "batch";

/** Who caused a run. A sub-agent's run counts as its parent's. */
export type Trigger = "user" | "cron" | "heartbeat";

/** `ride`: uses what is warm and never makes it so. `load`: loads like a person's run, in the class background. */
export type BackgroundMode = "ride" | "load";

export interface Rules {
  /** Life of a warm lease without a further message, seconds. */
  readonly ttlS: number;
  /** A conversation is in progress this long after somebody spoke, seconds. */
  readonly activeS: number;
  readonly priority: Priority;
  readonly cron: BackgroundMode;
  readonly heartbeat: BackgroundMode;
}

export type Named = { readonly session: string };
export type Model = { readonly model: string | undefined };

export type SessionEvent =
  | ({ readonly type: "messageReceived" } & Named & Model)
  /** A person did something here that calls no model, such as a command. */
  | ({ readonly type: "seen" } & Named)
  | ({ readonly type: "runStarted"; readonly run: string; readonly trigger: Trigger } & Named & Model)
  | ({
      readonly type: "callStarted";
      readonly run: string;
      readonly call: string;
      readonly trigger: Trigger | undefined;
      readonly span: string | undefined;
    } & Named &
      Model)
  | ({ readonly type: "callEnded"; readonly run: string; readonly call: string } & Named)
  | ({ readonly type: "runEnded"; readonly run: string; readonly aborted: boolean } & Named)
  | ({ readonly type: "spawned"; readonly parent: string | undefined } & Named & Model)
  | ({ readonly type: "modelChanged" } & Named & Model)
  | ({ readonly type: "armed"; readonly model: string; readonly forS: number } & Named)
  | ({ readonly type: "ended" } & Named)
  | { readonly type: "tick" };

export type Effect =
  | { type: "warm"; session: string; model: string; ttlS: number; priority: Priority }
  | { type: "release"; session: string; model: string }
  | { type: "span"; session: string; model: string; span: string };

/** What a conversation does; `in_use`: a model call is in flight (its use lease is the broker's business). */
export type Phase = "idle" | "warm" | "running" | "in_use";
