"""A pipeline over worker processes, as scripts that a test starts.

python worker_processes.py worker INDEX ADDRESSES     waits for work
python worker_processes.py trainer ADDRESSES          trains there, and compares
"""

from __future__ import annotations

import sys

import tensorflow as tf


def work(index: int, addresses: list[str]) -> None:
    """Serves the devices of this process until it is ended."""
    cluster = tf.train.ClusterSpec({"worker": addresses})
    tf.distribute.Server(cluster, job_name="worker", task_index=index).join()


def train(addresses: list[str]) -> None:
    """Trains the parts of a flow in the workers and in this process, and compares."""
    import keras
    from part_flows import batches, equal, make_flow, states

    from tfp_distill import Partition, PartSchedule

    tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec({"worker": addresses}))
    workers = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in (0, 1)]
    results, placed = [], set()

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for part in self.model.train_function.parts:
                placed.update((part.device, v.value.device) for v in part.variables)

    for devices, callbacks in ((None, []), (workers, [Look()])):
        flow = make_flow("conditional_maf")
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5)
        flow.compile(optimizer, partition=Partition.at_steps(flow, [2]), jit_compile=False)
        callbacks.append(PartSchedule("simultaneous", 1, devices=devices))
        flow.fit(batches("conditional_maf", 20), verbose=0, callbacks=callbacks)
        results.append(states(flow))
    print("placed", placed == {(worker, worker) for worker in workers})
    print("equal", all(equal(a, b) for a, b in zip(*results, strict=True)))


if __name__ == "__main__":
    addresses = sys.argv[-1].split(",")
    work(int(sys.argv[2]), addresses) if sys.argv[1] == "worker" else train(addresses)
