"""Architecture search in your own tuner of Ray Tune: python examples/ray_tune.py

The searcher proposes networks, Tune trains them and stops the worst early, and the best network is loaded from its
checkpoint.
"""

from pathlib import Path

from ray import tune

import nas


def main(
    data: str = "digits",
    *,
    space: str = "residual",
    epochs: int = 9,
    trials: int = 20,
    concurrent: int = 2,
    folder: str = "ray_results",
) -> tune.ResultGrid:
    """Search, show the best network; returns Tune's results."""
    tuner = tune.Tuner(
        nas.tune.Trainable,
        tune_config=tune.TuneConfig(
            search_alg=nas.tune.Searcher(data, space=space, max_macs=2e6, epochs=epochs, images=1_000),
            scheduler=tune.schedulers.ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=3),
            metric="anytime_accuracy",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # a worker loads the data once
        ),
        run_config=tune.RunConfig(
            name="anytime",
            storage_path=str(Path(folder).resolve()),  # or s3://…
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1),
            callbacks=[],  # such as ray.air.integrations.mlflow.MLflowLoggerCallback()
            verbose=1,
        ),
    )
    results = tuner.fit()

    best = results.get_best_result()
    print(f"anytime accuracy {best.metrics['anytime_accuracy']:.3f} after {best.metrics['epoch']} epochs")
    with best.checkpoint.as_directory() as checkpoint:
        network = nas.load(Path(checkpoint))
    for level, macs in enumerate(network.macs):
        print(f"level {level}: {macs:,} MACs, accuracy {best.metrics['accuracy'][f'level_{level}']:.3f}")
    return results


if __name__ == "__main__":
    main()
